"""Maps that are multiplied by a decision, or another weight, image by image."""
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .graph import edge_dots


def weigh(maps: Tensor, weights: Tensor, onto: Optional[Tensor] = None) -> Tensor:
    """``weights * maps (+ onto)``; differentiable once.

    The gradient of a weight is a sum over a whole map: taken in float32, since in float16 it would end at 65,504.

    Args:
        maps: (N, C, H, W).
        weights: (N,), rounded to the dtype of the maps.
        onto: (N, C, H, W), to be added to.
    """
    return _Weigh.apply(maps, weights, onto)


class _Weigh(Function):

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weights: Tensor, onto: Optional[Tensor]) -> Tensor:
        ctx.dtypes = maps.dtype, weights.dtype, None if onto is None else onto.dtype
        scale = weights.to(maps.dtype)[:, None, None, None]
        ctx.save_for_backward(maps if ctx.needs_input_grad[1] else None, scale)
        return maps * scale if onto is None else torch.addcmul(onto, maps, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Optional[Tensor], ...]:
        maps, scale = ctx.saved_tensors
        of_maps, of_weights, of_onto = ctx.dtypes
        return ((gradient * scale).to(of_maps) if ctx.needs_input_grad[0] else None,
                None if maps is None else _dots(gradient, maps).to(of_weights),
                None if of_onto is None else gradient.to(of_onto))


def _dots(gradient: Tensor, maps: Tensor) -> Tensor:
    """(N,): of each image, in float32 or wider."""
    if gradient.is_contiguous(memory_format=torch.channels_last):
        gradient, maps = gradient.permute(0, 2, 3, 1), maps.permute(0, 2, 3, 1)
    dtype = torch.promote_types(gradient.dtype, maps.dtype)
    return edge_dots(maps.to(dtype).flatten(1)[None], gradient.to(dtype).flatten(1)).squeeze(1)
