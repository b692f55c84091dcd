"""``weights_only`` with an allow-list for PyTorch before 2.5, which has the one without the other."""
import pickle
from _compat_pickle import IMPORT_MAPPING
from collections import Counter
from types import ModuleType
from typing import Any, Mapping

import torch
from torch import _weights_only_unpickler

# Data that later releases allow too; MultiStepLR keeps its milestones in a Counter.
_PLAIN: dict[str, Any] = {
    'collections.Counter': Counter, 'builtins.set': set, 'builtins.complex': complex, 'builtins.bytearray': bytearray,
    'torch.device': torch.device,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for ``codecs.encode``, as a call of which protocol 2 writes bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError('Unsupported global: GLOBAL _codecs.encode')
    return text.encode('latin1')


def load_restricted(path: str, allowed: Mapping[str, Any]) -> Any:
    """``torch.load`` onto the CPU that finds nothing but what is allowed.

    Args:
        path: A file of ``torch.save``.
        allowed: Dotted name -> what stands for it, beside what PyTorch itself allows.

    Raises:
        pickle.UnpicklingError: If the file names anything else; nothing of it has run.
    """
    known = {**_weights_only_unpickler._get_allowed_globals(), **_PLAIN, '_codecs.encode': _encode, **allowed}

    class Unpickler(pickle.Unpickler):
        """Finds globals by dictionary alone ("Restricting Globals" in Python's manual)."""

        def find_class(self, module: str, name: str) -> Any:
            # PyTorch writes with protocol 2, and so with the module names of Python 2.
            module = IMPORT_MAPPING.get(module, module)
            if f'{module}.{name}' not in known:
                raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {module}.{name}')
            return known[f'{module}.{name}']

    restricted = ModuleType('restricted_pickle')
    restricted.Unpickler = Unpickler
    restricted.load = lambda file, **options: Unpickler(file, **options).load()
    return torch.load(path, map_location='cpu', pickle_module=restricted, weights_only=False)
