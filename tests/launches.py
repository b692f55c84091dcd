"""Counts what a GPU would be asked to do: operators that are dispatched, and values that the host waits for."""
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# They hand out memory, and write nothing to it.
_ALLOCATE = ('empty', 'new_empty', 'empty_like', 'empty_strided', 'new_empty_strided', 'set_', 'resize_')


class Kernels(TorchDispatchMode):
    """Counts the dispatched operators, forward and backward, that compute something: views and fresh memory do not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.rpartition('::')[2]
        if not is_view(func) and name not in _ALLOCATE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def is_view(func) -> bool:
    """Whether an operator returns its argument's own memory, unwritten."""
    alias = func._schema.returns[0].alias_info if func._schema.returns else None
    return name_of(func) == '_unsafe_view' or (alias is not None and not alias.is_write)


def name_of(func) -> str:
    return func._schema.name.rpartition('::')[2]
