"""What PyTorch's releases since 2.1 spell differently, or lack."""
from typing import Optional

import torch
from torch import nn
from torch.nn.modules import module

# Public since 2.3. Looked up once: the compiler of 2.1 knows the function, and not how to look for it.
_is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling


def autocast_dtype(device_type: str) -> Optional[torch.dtype]:
    """The dtype that autocast wants on a kind of device; None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):  # since 2.4
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def is_traced() -> bool:
    """Whether the running code is being compiled or exported, so that nothing may depend on values."""
    return torch.jit.is_tracing() or _is_compiling()


def backward_keeps_graph() -> bool:
    """Whether the running backward pass was called with ``retain_graph=True``.

    PyTorch 2.1 does not tell, so there it is taken to be: memory is freed later, and nothing else changes.
    """
    tell = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return True if tell is None else tell()


def has_hooks(layer: nn.Module) -> bool:
    """Whether calling a module does more than its ``forward``: it has hooks, or all modules have."""
    own = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    of_all = (module._global_forward_hooks, module._global_forward_pre_hooks, module._global_backward_hooks,
              module._global_backward_pre_hooks)
    return any((*own, *of_all))
