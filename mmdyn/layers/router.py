"""The router of a node (DG-Net): from its output to the weights of its outgoing edges."""
import math
from typing import Sequence

import torch
from torch import Tensor, nn

from ..functional.autocast import without_autocast

# Features of half precision end here; larger ones are infinite, and infinity times a weight of
# zero would be NaN.
_FEATURE_BOUND = 65504.0
# Beyond, a weight would be 0, and an output whose strongest edge is 0 would have no input.
_LOGIT_BOUND = 30.0


class Router(nn.Linear):
    """``scale * sigmoid(W . pooled + c)``: one weight for each later node, and for the output.

    Computed in float32 (or wider), also under autocast. W starts at 0, so that at first every
    image gets the same wiring, exactly the one that was asked for.

    Args:
        in_channels: Channels of the node's output.
        start: The weights to start with, one an edge, each in (0, scale).
        scale: The largest weight an edge can get. With scale 2, logit 0 is weight 1.
    """

    def __init__(self, in_channels: int, start: Sequence[float], *, scale: float) -> None:
        self.scale = float(scale)
        self._start = [edge_logit(weight, scale) for weight in start]
        super().__init__(in_channels, len(self._start))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.bias.copy_(torch.tensor(self._start, dtype=torch.float64))

    def init_weights(self) -> None:
        """Called by MMEngine after the parent's ``init_cfg``, which may name linear layers."""
        self.reset_parameters()

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, C) -> (N, E) edge weights in (0, scale]."""
        with without_autocast(pooled):
            pooled = torch.nan_to_num(pooled, 0.0).clamp(-_FEATURE_BOUND, _FEATURE_BOUND)
            logits = super().forward(pooled.to(self.weight.dtype))
            return self.scale * torch.sigmoid(logits.clamp(-_LOGIT_BOUND, _LOGIT_BOUND))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, scale={self.scale}'


def edge_logit(weight: float, scale: float) -> float:
    """The logit that a router turns into this weight.

    Raises:
        ValueError: If the weight does not lie in (0, scale).
    """
    if not 0 < weight < scale:
        raise ValueError(f'a router can only give weights in (0, {scale}), got {weight}')
    return math.log(weight) - math.log(scale - weight)
