"""Counts the multiply-adds of every module by running a backbone once."""
import copy
from collections import Counter
from functools import partial

import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def copy_for_counting(backbone: nn.Module, device: str) -> nn.Module:
    """A copy of a dynamic backbone in which every part runs.

    It executes masked and at evaluation, and has none of the original's hooks. On the device
    ``meta`` it has shapes and no contents, so that it costs neither memory nor arithmetic.
    """
    moved = {id(p): nn.Parameter(p.detach().to(device), requires_grad=False)
             for p in backbone.parameters()}
    moved.update((id(buffer), buffer.detach().to(device)) for buffer in backbone.buffers())
    moved[id(backbone.decisions)] = None
    copied = copy.deepcopy(backbone, moved).eval()
    copied.execution = 'mask'
    copied.force_decisions(None)
    copied.pool_padding = True  # changes no count, and on `meta` no valid size can be read
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        if isinstance(module, (DeformConv2d, ModulatedDeformConv2d)):
            module.forward = partial(_plain_convolution, module)
    return copied


def _plain_convolution(module: nn.Module, x: Tensor, *_: Tensor) -> Tensor:
    # The counter does not see MMCV's operators. A deformable convolution multiplies as often as a
    # plain one of the same geometry, beside the convolution that finds its offsets.
    if hasattr(module, 'conv_offset'):
        module.conv_offset(x)
    return nn.functional.conv2d(x, module.weight, None, module.stride, module.padding,
                                module.dilation, module.groups)


@torch.no_grad()
def count_macs(copied: nn.Module,
               input_size: tuple[int, int]) -> tuple[dict[str, int], tuple[Tensor, ...]]:
    """Runs one empty image and counts, for each module, what no child of it computes.

    Args:
        copied: From :func:`copy_for_counting`.
        input_size: (H, W) in pixels.

    Returns:
        Module name -> multiply-adds, the backbone's own name being '', and the feature maps.
    """
    first = next(m for m in copied.modules() if isinstance(m, nn.Conv2d)).weight
    image = torch.zeros(1, first.shape[1], *input_size, dtype=first.dtype, device=first.device)
    counts: Counter[str] = Counter()
    running: list[str] = []
    counted = 0

    def settle() -> None:
        nonlocal counted
        total = counter.get_total_flops()
        if running:
            counts[running[-1]] += (total - counted) // 2
        counted = total

    def enter(name: str, *_) -> None:
        settle()
        running.append(name)

    def leave(*_) -> None:
        settle()
        running.pop()

    handles = []
    for name, module in copied.named_modules():
        handles.append(module.register_forward_pre_hook(partial(enter, name)))
        handles.append(module.register_forward_hook(leave))
    try:
        with FlopCounterMode(display=False) as counter:
            features = copied(image)
    finally:
        for handle in handles:
            handle.remove()
    return {name: count for name, count in counts.items() if count}, features
