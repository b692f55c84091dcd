"""Conditional execution: a block runs on the open images of a batch only."""
from typing import Callable, Optional

import torch
from torch import Tensor


def run_on_open(function: Callable[[Tensor], Tensor], images: Tensor,
                is_open: Tensor) -> tuple[Optional[Tensor], Optional[Tensor]]:
    """Runs a function on those images of a batch whose decision is open.

    The decisions are read by the host (one synchronisation on a GPU): what runs depends on them.
    Nothing is copied when all images agree.

    Args:
        function: Takes (M, ...) images and returns (M, ...) results.
        images: (N, ...).
        is_open: (N,), true or 1 where the image is to be run.

    Returns:
        The results and the (M,) indices of the images that they belong to. The indices are None
        when every image ran; the results are None when none did.
    """
    index = torch.nonzero(is_open).flatten()
    if len(index) == len(images):
        return function(images), None
    if len(index) == 0:
        return None, index
    return function(_gather(images, index)), index


def _gather(images: Tensor, index: Tensor) -> Tensor:
    if images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last):
        # `index_select` alone would bring them into the other memory format.
        return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return images.index_select(0, index)
