"""The logits above which gates open: running estimates, for all gates of a backbone at once."""
from typing import Sequence

import torch
from torch import Tensor, nn

from ..functional.host_numbers import minus

_BUFFERS = ('quantile', 'spread', 'calibration_steps')


class RunningQuantile(nn.Module):
    """Follows a quantile of a gate's logits.

    Args:
        persistent: Whether it belongs among the weights.

    Attributes:
        quantile: The logit above which the target share of images lies.
        spread: Typical distance of an image's logit from it, which sets the step.
        calibration_steps: How many steps have been made; the first ones are large.
    """

    quantile: Tensor
    spread: Tensor
    calibration_steps: Tensor

    def __init__(self, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer('quantile', torch.zeros(()), persistent)
        self.register_buffer('spread', torch.ones(()), persistent)
        self.register_buffer('calibration_steps', torch.zeros((), dtype=torch.long), persistent)


@torch.no_grad()
def follow_quantiles(running: Sequence[Sequence[RunningQuantile]], targets: Sequence[float], above: Tensor,
                     distance: Tensor) -> None:
    """One step of each quantile (stochastic approximation; Robbins & Monro, 1951).

    It needs no more than means over images, and so brings the target share about with any number of images a batch, on
    any number of ranks.

    Args:
        running: L quantiles, each of one gate or of several that share it: those take the value of the first.
        targets: L target rates.
        above: (L,) shares of the global batch whose logit lies above the quantile.
        distance: (L,) mean distances of these logits from the quantile.
    """
    quantile, spread, steps = (torch.stack([getattr(first, name) for first, *_ in running]) for name in _BUFFERS)
    # Large steps at first, then few enough to follow a gate that is still learning.
    step = (steps + 1).reciprocal().clamp(min=0.02)
    spread = spread + step * (distance - spread)
    for name, value in zip(_BUFFERS, (quantile + 2 * step * spread * minus(above, targets), spread, steps + 1)):
        torch._foreach_copy_([getattr(own, name) for sharing in running for own in sharing],
                             [moved for moved, sharing in zip(value.unbind(), running) for _ in sharing])
