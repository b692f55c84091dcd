"""The end of a residual block at evaluation: sum, activation and average in one pass."""
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor

# Elements that are added, activated and averaged at a time, while they are in the cache: a gate
# or router that reads the map again from memory costs as much as the sum itself.
_PIECE = 1 << 17


def residual_sum(out: Tensor, branch: Optional[Tensor], shortcut: Optional[Tensor], *,
                 activation: Optional[Callable[[Tensor], Tensor]], cells: Sequence[int],
                 pooled: Tensor) -> None:
    """Writes ``activation(branch + shortcut)`` of one image, and its average.

    On CPUs a cache-sized piece at a time. Without gradient.

    Args:
        out: (C, H, W) to write to; may be the memory of ``branch`` or ``shortcut``.
        branch: (C, H, W), or None.
        shortcut: (C, H, W), or None; not both.
        activation: Applied in place; None for the plain sum.
        cells: (h, w), the valid part of the map.
        pooled: (C,) to write the average over the valid part to.
    """
    channels, height, width = out.shape
    in_pieces = out.device.type == 'cpu' and out.is_contiguous()
    step = max(1, _PIECE // (height * width)) if in_pieces else channels
    whole = tuple(cells) == (height, width)
    sources = [source.split(step) for source in (branch, shortcut) if source is not None]
    for piece, total, *parts in zip(out.split(step), pooled.split(step), *sources):
        if len(parts) == 2:
            torch.add(*parts, out=piece)
        elif parts[0].data_ptr() != piece.data_ptr():
            piece.copy_(parts[0])
        if activation is not None:
            activation(piece)
        valid = piece if whole else piece[:, :cells[0], :cells[1]]
        torch.sum(valid, dim=(1, 2), dtype=pooled.dtype, out=total)
    pooled /= cells[0] * cells[1]
