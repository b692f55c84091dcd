"""Counts what a GPU would be asked to do, on a machine that has none.

Under FakeTensorMode tensors have a device and no contents: what asks for a value raises, as do mixed devices.
"""
from contextlib import contextmanager
from typing import Any, Iterator
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# They compute nothing on the device: memory is handed out, dtypes are compared.
_NO_KERNEL = ('empty', 'new_empty', 'empty_like', 'empty_strided', 'new_empty_strided', '_unsafe_view', 'promote_types',
              'result_type', 'set_', 'device', 'lift_fresh', 'is_same_size')


class Kernels(TorchDispatchMode):
    """Notes the operators, forward and backward, that compute something; views and fresh memory do not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.rpartition('::')[2]
        returns = func._schema.returns
        is_view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        if not is_view and name not in _NO_KERNEL:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class Copies(TorchDispatchMode):
    """Notes every copy between the host and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and args and isinstance(args[0], Tensor):
            if out.device != args[0].device:
                self.found.append(f'{func}: {args[0].device} -> {out.device}')
        return out


class Reads(TorchFunctionMode):
    """Notes every value that the host waits for, and makes one up: every second image is open, or has open edges."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        # Those have a method of their own, which reads one number after the other.
        self._list = mock.patch.object(FakeTensor, 'tolist', lambda tensor: self.read('tolist', tensor))

    def __enter__(self) -> 'Reads':
        self._list.start()
        return super().__enter__()

    def __exit__(self, *args) -> None:
        self._list.stop()
        super().__exit__(*args)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '')
        return self.read(name, args[0]) if name in _READS else func(*args, **(kwargs or {}))

    def read(self, name: str, tensor: Tensor) -> Any:
        if tensor.device.type == 'cuda':
            self.found.append(name)
        return _READS[name](tensor)


def made_up(tensor: Tensor) -> np.ndarray:
    """Sizes of 64 pixels; of everything else, ones for every second image."""
    if not tensor.is_floating_point():
        return np.full(tensor.shape, 64)
    values = np.ones(tensor.shape)
    values[1::2] = 0
    return values


_READS = dict(
    cpu=lambda tensor: tensor.to('cpu'),
    tolist=lambda tensor: made_up(tensor).tolist(),
    numpy=lambda tensor: np.ones(tensor.shape),
    item=lambda tensor: 1.0,
    nonzero=lambda tensor: torch.arange(-(-len(tensor) // 2), device=tensor.device)[:, None],
    __bool__=lambda tensor: True,
    __float__=lambda tensor: 1.0,
    __int__=lambda tensor: 1,
    __index__=lambda tensor: 1)


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """``torch.autocast('cuda', dtype)``, which would do nothing where there is no driver."""
    device = ('cuda', ) if hasattr(torch, 'get_autocast_dtype') else ()  # since PyTorch 2.4
    set_dtype = torch.set_autocast_dtype if device else torch.set_autocast_gpu_dtype
    set_dtype(*device, dtype)
    torch.set_autocast_enabled(*device, True)
    try:
        yield
    finally:
        torch.set_autocast_enabled(*device, False)
        torch.clear_autocast_cache()


def can_pretend() -> bool:
    """Whether this PyTorch can pretend a GPU without asking for a driver."""
    try:
        with FakeTensorMode():
            torch.ones(1, device='cuda') + 1
        return True
    except (RuntimeError, AssertionError):
        return False


def pretend(module: nn.Module) -> None:
    """Puts parameters and buffers without contents on the GPU in the place of the module's own."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=value.dtype, device='cuda')
                part._parameters[name] = nn.Parameter(empty, value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device='cuda')
