"""Maps as rows of memory, so that sums over many of them are matrix products."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from .conditional import select


def flatten(maps: Tensor, channels_last: bool) -> Tensor:
    """(M, C, H, W) -> (M, C * H * W), as they lie in memory; a copy if that is in the other memory format."""
    return (maps.permute(0, 2, 3, 1) if channels_last else maps).flatten(1)


def unflatten(flat: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """(M, C * H * W) -> (M, C, H, W), without a copy."""
    _, channels, height, width = shape
    if channels_last:
        return flat.view(len(flat), height, width, channels).permute(0, 3, 1, 2)
    return flat.view(len(flat), channels, height, width)


def write_sum(out: Tensor, branch: Tensor, shortcut: Optional[Tensor], *, rectify: bool,
              images: Optional[Sequence[int]] = None) -> None:
    """Stores a node's output, ``branch (+ shortcut)``, rectified if asked for. Without gradient."""
    if images is not None:
        out.fill_(0) if shortcut is None else out.copy_(shortcut)
        if images:  # sums put in their places, as `index_add` would add atomically
            index = torch.tensor(images, device=out.device)
            out.index_copy_(0, index, (select(out, index) + branch).to(out.dtype))
    elif shortcut is None:
        out.copy_(branch)
    else:
        torch.add(branch, shortcut, out=out)
    if rectify:
        out.relu_()
