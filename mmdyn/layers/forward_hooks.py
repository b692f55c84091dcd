"""Whether someone looks into a module."""
from torch import nn
from torch.nn.modules import module as torch_module


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module does more than its ``forward``: it has hooks, or all modules have."""
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    of_all = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks,
              torch_module._global_backward_hooks, torch_module._global_backward_pre_hooks)
    return any((*own, *of_all))


def is_observed(module: nn.Module) -> bool:
    """Whether it or any module in it has hooks: they may keep what passes, so its memory must not be used again."""
    return any(map(has_hooks, module.modules()))
