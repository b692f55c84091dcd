"""Registries of the scope ``mmdyn``, and what they say of names that nothing has.

MMEngine imports this module by itself when a config says ``type='mmdyn.X'``, and hides any
error that the import raises. So nothing is imported here but the registries; the modules that
need MMDetection are named as ``locations`` and are imported, with their errors shown, when a
class is first asked for.
"""
import difflib
import inspect
from typing import Any, Iterable, Optional

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry


def suggest(name: str, names: Iterable[str]) -> str:
    """What to write instead of a name that is not among some: the nearest one, or else all of them."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=1)
    return f'did you mean {near[0]}?' if near else f'expected one of {", ".join(names)}'


class ScopedRegistry(Registry):
    """Where MMEngine's finds nothing, and says where to read about registries, this one names what it has."""

    def get(self, key: str) -> Optional[type]:
        """The class of a name, as the parent finds it.

        Raises:
            KeyError: If neither this registry nor its parent has the name.
        """
        found = super().get(key)
        if found is None and '.' not in key.removeprefix(f'{self.scope}.'):
            name = key.removeprefix(f'{self.scope}.')
            raise KeyError(f'{self.scope}.{name}: {self.scope} has no such {self.name}; '
                           + suggest(name, self.module_dict))
        return found


MODELS = ScopedRegistry(
    'model', parent=MMENGINE_MODELS, scope='mmdyn', locations=['mmdyn.backbones', 'mmdyn.losses'])
HOOKS = ScopedRegistry('hook', parent=MMENGINE_HOOKS, scope='mmdyn', locations=['mmdyn.engine', 'mmdyn.hooks'])
METRICS = ScopedRegistry('metric', parent=MMENGINE_METRICS, scope='mmdyn', locations=['mmdyn.metrics'])
OPTIM_WRAPPERS = ScopedRegistry(
    'optim wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmdyn', locations=['mmdyn.engine'])
REGISTRIES = (MODELS, HOOKS, METRICS, OPTIM_WRAPPERS)


def options_of(cls: type) -> Optional[set[str]]:
    """Names of what a class can be built with, the arguments that it hands on to its bases included.

    Returns:
        None where whatever comes is taken.
    """
    names: set[str] = set()
    for base in cls.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names
    return None


def check_options(cls: type, given: Iterable[str], *, also: Iterable[str] = ()) -> None:
    """Refuses options that a class does not have, where Python would name one of its bases.

    Args:
        cls: To be built.
        given: Names of the options.
        also: Further names that are not for the class.

    Raises:
        TypeError: Naming the class, the option and the nearest one that there is.
    """
    known = options_of(cls)
    for name in given:
        if known is not None and name not in known and name not in also:
            raise TypeError(f'{cls.__name__} has no option {name}; {suggest(name, known)}')


def find_class(name: str) -> Optional[Any]:
    """What a name (without scope) stands for in one of the registries here; None where none has it."""
    for registry in REGISTRIES:
        try:
            return registry.get(name)
        except KeyError:
            continue
    return None
