"""The stem's max-pooling, which no gate can skip: the same result in less time and memory."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair

from ..functional.torch_versions import is_traced
from .forward_hooks import has_hooks


def max_pool(pool: nn.Module, features: Tensor) -> Tensor:
    """``pool(features)``, to the last bit.

    At evaluation on CPUs by oneDNN, for contiguous float32 maps: PyTorch's own loop takes five to eight times as long,
    7 % of a ResNet-50's time without a multiply-add. (oneDNN does not hand on NaN.) In training by
    :class:`CompactMaxPool`.

    Args:
        pool: The parent's pooling layer; anything but a plain ``nn.MaxPool2d`` is just called.
        features: (N, C, H, W).
    """
    plain = type(pool) is nn.MaxPool2d and not pool.return_indices and _pair(pool.dilation) == (1, 1)
    if not plain or has_hooks(pool) or is_traced():
        return pool(features)
    if torch.is_grad_enabled() and features.requires_grad:
        return CompactMaxPool.apply(features, pool) if _reach(pool, features) < 1 << 15 else pool(features)
    on_cpu = features.device.type == 'cpu' and torch.backends.mkldnn.is_available()
    if on_cpu and features.dtype == torch.float32 and features.is_contiguous():
        return pool(features.to_mkldnn()).to_dense()
    return pool(features)


class CompactMaxPool(Function):
    """Max-pooling that remembers where each maximum was in 2 bytes instead of 8.

    Forward: (features (N, C, H, W), an ``nn.MaxPool2d`` without dilation). PyTorch keeps an int64 position in the
    whole map for the backward pass; this keeps the distance from the window's corner.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, pool: nn.MaxPool2d) -> Tensor:
        pooled, positions = F.max_pool2d(
            features, pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode, return_indices=True)
        ctx.pool = pool
        # The features are the stem's activation, which autograd keeps in any case.
        ctx.save_for_backward(features, positions.sub_(_corners(pool, features, positions)).short())
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        features, distances = ctx.saved_tensors
        pool: nn.MaxPool2d = ctx.pool
        geometry = [_pair(value) for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)]
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, features, *geometry, pool.ceil_mode, distances + _corners(pool, features, distances)), None


def _corners(pool: nn.MaxPool2d, features: Tensor, positions: Tensor) -> Tensor:
    """(h, w) int64: each window's first position in the flattened map; negative in the padding."""
    axes = zip(positions.shape[2:], _pair(pool.stride), _pair(pool.padding))
    rows, columns = (torch.arange(n, device=positions.device) * stride - padding for n, stride, padding in axes)
    return rows[:, None] * features.shape[3] + columns


def _reach(pool: nn.MaxPool2d, features: Tensor) -> int:
    """The farthest that a window's last position lies behind its first one."""
    height, width = _pair(pool.kernel_size)
    return (height - 1) * features.shape[3] + width - 1
