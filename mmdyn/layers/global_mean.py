"""Statistics of the global batch: over all images of all ranks."""
import torch
from mmengine import dist
from torch import Tensor

from ..functional.gumbel import straight_through


def global_mean(values: Tensor) -> Tensor:
    """Mean over the images of all ranks, with the gradient of one process that held them all.

    DDP averages gradients over the ranks. So that the average is the gradient of the global mean,
    each rank's own share is scaled by the number of ranks; ranks may hold different numbers of
    images. One small all-reduce, without gradient.

    Args:
        values: (L, N) with this rank's N images last.

    Returns:
        (L,), the same on every rank; d mean / d value is world size / (images of all ranks).
    """
    if dist.get_world_size() == 1:
        return values.mean(dim=-1)
    sums = values.detach().sum(dim=-1)
    packed = torch.cat([sums, torch.full_like(sums[:1], values.shape[-1])])  # nothing is copied from the host
    dist.all_reduce(packed)
    count = packed[-1]
    return straight_through(packed[:-1] / count, values.sum(dim=-1) * (dist.get_world_size() / count))
