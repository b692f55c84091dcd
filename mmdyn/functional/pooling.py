"""Global average pooling that leaves batch padding out.

Pictures of different sizes are padded to one size on the right and at the bottom, after
normalisation, with exact zeros. Pooling over the padding would let a picture's batch-mates
change its route, so gates and routers pool over the valid part alone.
"""
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .autocast import without_autocast
from .torch_versions import add_product_


def valid_sizes(images: Tensor) -> Tensor:
    """Finds the unpadded size of each picture: up to its last row and column that are not all 0.

    Args:
        images: (N, C, H, W) normalised input batch.

    Returns:
        (N, 2) int64, heights and widths in pixels; (H, W) for a picture of nothing but zeros.
    """
    content = images.ne(0).any(dim=1)
    sizes = [last_true(content.any(dim=other)) for other in (2, 1)]
    return torch.stack(sizes, dim=1)


def fill_their_frame(images: Tensor) -> bool:
    """Whether each picture's last row and last column show something; read by the host.

    Then none is padded, which is found at a small part of the cost of :func:`valid_sizes`.
    """
    edges = images[:, :, -1], images[:, :, :, -1]
    return bool(torch.stack([edge.ne(0).flatten(1).any(dim=1) for edge in edges]).all())


def last_true(flags: Tensor) -> Tensor:
    """Number of entries of (N, L) flags up to the last true one; L where none is true."""
    length = flags.shape[1]
    positions = torch.arange(1, length + 1, device=flags.device)
    last = (flags * positions).amax(dim=1)
    return torch.where(last > 0, last, length)


def pooling_weights(sizes: Tensor, input_size: tuple[int, int], feature_size: tuple[int, int],
                    dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights that average a feature map over the valid part of each picture.

    Args:
        sizes: (N, 2) valid heights and widths in input pixels.
        input_size: (H, W) of the padded input.
        feature_size: (h, w) of the feature map; a stride-s convolution maps L pixels to ceil(L / s) cells.
        dtype: Of the weights.

    Returns:
        (N, h * w); each row sums to 1.
    """
    # Cell i is valid if it begins inside of the picture: i < ceil(size * cells / padded).
    rows, columns = (torch.arange(0, padded * cells, padded, device=sizes.device) < (own * cells)[:, None]
                     for own, padded, cells in zip(sizes.unbind(dim=1), input_size, feature_size))
    return average_over(rows, columns, dtype)


def average_over(rows: Tensor, columns: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, h) and (N, w), which rows and columns of a map are valid -> (N, h * w) weights that average over them."""
    row_weights, column_weights = (valid / valid.sum(dim=1, keepdim=True, dtype=dtype) for valid in (rows, columns))
    return (row_weights[:, :, None] * column_weights[:, None, :]).flatten(1)


def weighted_pool(features: Tensor, weights: Tensor) -> Tensor:
    """Averages features with given weights; nothing is read by the host.

    Args:
        features: (N, C, h, w), any memory format.
        weights: (N, h * w) from :func:`pooling_weights`, without gradient.

    Returns:
        (N, C), in float32 or wider, also under autocast.
    """
    return pool_beside(features, weights, private=False)[1]


def pool_beside(features: Tensor, weights: Tensor, *, private: bool) -> tuple[Tensor, Tensor]:
    """The features, to be read on, and their averages; the gradient of both in one pass over the map.

    Args:
        features: (N, C, h, w), any memory format.
        weights: (N, h * w) from :func:`pooling_weights`, without gradient.
        private: Whether at least two read the features on and nobody else sees their gradient: then it is a sum that
            may be written to.

    Returns:
        (N, C, h, w), the same memory; (N, C), in float32 or wider, also under autocast.
    """
    return _PoolBeside.apply(features, weights, private)


class _PoolBeside(Function):
    """Keeps the weights alone, and gives a gradient in the features' own dtype and memory format."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, private: bool) -> tuple[Tensor, Tensor]:
        ctx.dtype, ctx.private = features.dtype, private
        ctx.channels_last = features.is_contiguous(memory_format=torch.channels_last)
        ctx.size = features.shape[2:]
        ctx.save_for_backward(weights)
        ctx.set_materialize_grads(False)
        return features, _average(features, weights, ctx.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_features: Optional[Tensor], of_average: Optional[Tensor]) -> tuple:
        weights, = ctx.saved_tensors
        if of_average is None:
            return of_features, None, None
        spread, over = of_average[:, :, None, None], weights.view(-1, 1, *ctx.size)
        if of_features is None:
            memory_format = torch.channels_last if ctx.channels_last else torch.contiguous_format
            gradient = torch.empty(of_average.shape + ctx.size, dtype=ctx.dtype, device=of_average.device,
                                   memory_format=memory_format)
            # Multiplied in float32 and rounded once, without a map in float32.
            return torch.mul(spread, over, out=gradient), None, None
        gradient = of_features if ctx.private else of_features.clone()
        add_product_(gradient, spread, over)
        return gradient, None, None


def _average(features: Tensor, weights: Tensor, channels_last: bool) -> Tensor:
    with without_autocast(features):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        weights = weights.to(features.dtype)
        # The weights as a row vector on the left: the other way round is an order slower on CPUs.
        if not channels_last:
            return torch.bmm(weights[:, None], features.flatten(2).transpose(1, 2)).squeeze(1)
        # Row by row of the map: a product over all cells would keep a handful of a GPU's thread blocks busy.
        number, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(number * height, width, channels)
        return torch.bmm(weights.view(-1, 1, width), rows).view(number, height, channels).sum(dim=1)


def cropped_pool(features: Tensor, cells: list[list[int]]) -> Tensor:
    """Averages each picture's valid part, whose size the host knows.

    For evaluation: faster than weights, and a picture's result is the same to the last bit
    whatever its batch-mates are.

    Args:
        features: (N, C, h, w).
        cells: N pairs: valid height and width of each picture on the map.

    Returns:
        (N, C), in float32 or wider.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    if all(cell == cells[0] for cell in cells):
        height, width = cells[0] if cells else features.shape[2:]
        return features[:, :, :height, :width].mean(dim=(2, 3), dtype=dtype)
    means = [features[i:i + 1, :, :h, :w].mean(dim=(2, 3), dtype=dtype)
             for i, (h, w) in enumerate(cells)]
    return torch.cat(means)
