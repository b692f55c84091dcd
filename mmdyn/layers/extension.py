"""Adds behaviour to modules that are built already, without renaming anything in them."""
from typing import Any

from torch import nn


class Extension(nn.Module):
    """Base of what :func:`extend` adds to a module: a ``forward`` of its own, over the module's own children.

    Attributes:
        name_in_backbone: ``layer3`` or ``layer3.1``, as the decisions and messages name it.
    """

    prefix: str
    name_in_backbone: str

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # Pickle finds a class by its name, and these classes are made as they are needed.
        extension, original = type(self).__bases__
        return _blank, (extension, original), self.__dict__


def extend(module: nn.Module, extension: type[Extension], name: str) -> None:
    """Makes a module one of a class that inherits from the extension and from the class that it was of.

    Parameters, their names and initialisation stay, as with PyTorch's ``fully_shard``. MMDetection compares the classes
    of blocks while it builds a backbone, so this comes afterwards.

    Args:
        module: To be extended, in place.
        extension: What it gains; its ``forward`` takes the place of the module's.
        name: Of the module in its backbone.
    """
    module.__class__ = _extended(extension, type(module))
    module.name_in_backbone = name


# Made once: two modules of one class must stay of one class.
_CLASSES: dict[tuple[type, type], type] = {}


def _extended(extension: type, original: type) -> type:
    bases = extension, original
    if bases not in _CLASSES:
        name = f'{extension.prefix}{original.__name__}'  # type: ignore[attr-defined]
        _CLASSES[bases] = type(name, bases, {'__module__': original.__module__})
    return _CLASSES[bases]


def _blank(extension: type, original: type) -> nn.Module:
    """An instance without state, which unpickling and copying fill in."""
    return object.__new__(_extended(extension, original))
