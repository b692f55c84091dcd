"""Looks for mistakes in a config before anything is built: names that nothing has, and numbers that are none."""
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from ..registry import REGISTRIES, check_options, find_class, suggest
from .errors import InputError

SCOPE = 'mmdyn.'
# Keys of a config that are not for the class that its `type` names: MMEngine takes them out.
TAKEN_OUT = ('type', '_scope_', 'priority', 'constructor', 'paramwise_cfg')


def check_config(cfg: Config) -> None:
    """Checks every `type='mmdyn.X'` and its options, and every number.

    Raises:
        InputError: Names each mistake by its key in the config.
    """
    problems = list(find_mistakes(cfg.to_dict(), ''))
    if problems:
        raise InputError('; '.join(problems))


def find_mistakes(node: Any, key: str) -> Iterator[str]:
    """What is wrong with a part of a config, in words.

    Args:
        node: The part.
        key: Its dotted key.
    """
    if isinstance(node, Mapping):
        kind = node.get('type')
        if isinstance(kind, str) and kind.startswith(SCOPE):
            yield from _misnamed(node, kind.removeprefix(SCOPE), key)
        for name, value in node.items():
            yield from find_mistakes(value, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from find_mistakes(value, f'{key}.{index}')
    elif isinstance(node, float) and math.isnan(node):
        yield f'{key}: expected a number, got nan'


def _misnamed(node: Mapping[str, Any], name: str, key: str) -> Iterator[str]:
    cls = find_class(name)
    if cls is None:
        names = [name for registry in REGISTRIES for name in registry.module_dict]
        yield f'{key}.type: mmdyn has no {name}; {suggest(name, names)}'
        return
    try:
        check_options(cls, node, also=TAKEN_OUT)
    except TypeError as error:
        yield f'{key}: {error}'
