"""The sum of a gated block (ConvNet-AIG, equation 2)."""
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .graph import edge_dots


def gated_sum(shortcut: Tensor, branch: Tensor, decision: Tensor) -> Tensor:
    """``shortcut + decision * branch``, image by image.

    The gradient of a decision is a sum over a whole map: taken in float32, since in float16 it would end at 65,504.

    Args:
        shortcut: (N, C, H, W).
        branch: (N, C, H, W).
        decision: (N,), rounded to the dtype of the branch.
    """
    return _GatedSum.apply(shortcut, branch, decision)


class _GatedSum(Function):

    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, branch: Tensor, decision: Tensor) -> Tensor:
        ctx.dtypes = shortcut.dtype, branch.dtype, decision.dtype
        scale = decision.to(branch.dtype)[:, None, None, None]
        ctx.save_for_backward(branch if ctx.needs_input_grad[2] else None, scale)
        return torch.addcmul(shortcut, branch, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        branch, scale = ctx.saved_tensors
        of_shortcut, of_branch, of_decision = ctx.dtypes
        return (gradient.to(of_shortcut),
                (gradient * scale).to(of_branch) if ctx.needs_input_grad[1] else None,
                _dots(gradient, branch).to(of_decision) if branch is not None else None)


def _dots(gradient: Tensor, branch: Tensor) -> Tensor:
    """(N,): of each image, in float32 or wider."""
    if gradient.is_contiguous(memory_format=torch.channels_last):
        gradient, branch = gradient.permute(0, 2, 3, 1), branch.permute(0, 2, 3, 1)
    dtype = torch.promote_types(gradient.dtype, branch.dtype)
    return edge_dots(branch.to(dtype).flatten(1)[None], gradient.to(dtype).flatten(1)).squeeze(1)
