"""Whether someone looks into a module."""
from torch import nn
from torch.nn.modules import module as torch_module


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module does more than its ``forward``: it has hooks, or all modules have."""
    return _all_have_hooks() or _has_own_hooks(module)


def is_observed(module: nn.Module) -> bool:
    """Whether it or any module in it has hooks: they may keep what passes, so its memory must not be used again."""
    if _all_have_hooks():
        return True
    waiting = [module]  # asked in each forward pass: `Module.modules` would take several times as long
    while waiting:
        module = waiting.pop()
        if _has_own_hooks(module):
            return True
        waiting += [child for child in module._modules.values() if child is not None]
    return False


def _has_own_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _all_have_hooks() -> bool:
    return bool(torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks
                or torch_module._global_backward_hooks or torch_module._global_backward_pre_hooks)
