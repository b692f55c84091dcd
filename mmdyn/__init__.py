"""Dynamic backbones for MMDetection: ConvNet-AIG and DG-Net."""
from importlib import import_module
from typing import Any

__version__ = '0.2.0'
__all__ = ['__version__', 'attach']

# Names offered here and the module that has them. Loaded on first use: mmengine imports this package to find its
# registry, at a time when importing torch or mmdet would be slow or circular.
_LAZY = {'attach': 'mmdyn.hooks'}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_LAZY[name]), name)
