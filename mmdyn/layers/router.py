"""The router of a node (DG-Net): from its output to the weights of its outgoing edges."""
import math
from typing import Mapping, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..functional.autocast import without_autocast
from ..functional.gumbel import bounded, straight_through
from .feature_norm import NORMS, finite_features, normalise
from .gate import check_number

# What follows a norm is linear and needs no weights before it.
_PLAIN = {'LN': dict(elementwise_affine=False), 'BN': dict(affine=False), None: {}}
# Beyond, a weight would be 0, and an output whose strongest edge is 0 would have no input.
_LOGIT_BOUND = 30.0


class Router(nn.Linear):
    """``scale * sigmoid(c + W . pooled)``: one weight for each later node, and for the output.

    Computed in float32 (or wider), also under autocast. W starts at 0, so that at first every
    image gets the same wiring, exactly the one that was asked for: c is the static part.

    Args:
        in_channels: Channels of the node's output.
        start: The weights to start with, one an edge, each in (0, scale).
        scale: The largest weight an edge can get. With scale 2, logit 0 is weight 1.
        norm: Of the averages that W reads, ``'LN'``, over the channels of an image, or ``'BN'``, over images, so that W
            reads how an image differs from others and c is their mean; None: as they are. What is normalised is
            brought to the length of about 1. Then how fast the dynamic part learns depends neither on how large the
            features are nor on how many: one step of gradient descent on W moves a logit about as far as one on c.
        dynamic: The most that an image may change a logit: ``dynamic * tanh(W . pooled / dynamic)`` in the place of
            ``W . pooled``. None: no bound.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    def __init__(self, in_channels: int, start: Sequence[float], *, scale: float, norm: Optional[str] = None,
                 dynamic: Optional[float] = None) -> None:
        if norm not in tuple(NORMS):  # compares, where the dict would hash what may be a list
            raise ValueError(f'router norm must be one of {list(NORMS)}, got {norm!r}')
        if dynamic is not None and not check_number('router dynamic', dynamic, 0.0, _LOGIT_BOUND):
            raise ValueError("router dynamic must be above 0, got 0; without a dynamic part it is router='bias'")
        self.scale = float(scale)
        self.dynamic = dynamic
        self._start = [edge_logit(weight, scale) for weight in start]
        super().__init__(in_channels, len(self._start))
        self.norm = None if norm is None else NORMS[norm](in_channels, **_PLAIN[norm])

    def reset_parameters(self) -> None:
        if self.weight is not None:  # which a BiasRouter gives away
            nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.bias.copy_(torch.tensor(self._start, dtype=torch.float64))

    def init_weights(self) -> None:
        """Called by MMEngine after the parent's ``init_cfg``, which may name linear layers."""
        self.reset_parameters()

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, C) -> (N, E) edge weights in (0, scale]."""
        with without_autocast(pooled):
            return self.scale * torch.sigmoid(bounded(self.logits(pooled), _LOGIT_BOUND))

    def logits(self, pooled: Tensor) -> Tensor:
        """(N, C) -> (N, E)."""
        finite = straight_through(torch.nan_to_num(pooled.detach(), 0.0), pooled)
        features = finite_features(finite, self)
        if self.norm is not None:
            features = normalise(self.norm, features) / math.sqrt(features.shape[1])
        if self.dynamic is None:
            return super().forward(features)
        moved = nn.functional.linear(features, self.weight)
        return self.bias + self.dynamic * torch.tanh(moved / self.dynamic)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, scale={self.scale}'


class BiasRouter(Router):
    """``scale * sigmoid(c)``: weights that are learned and the same for every image."""

    def __init__(self, in_channels: int, start: Sequence[float], *, scale: float) -> None:
        super().__init__(in_channels, start, scale=scale)
        self.register_parameter('weight', None)

    def logits(self, pooled: Tensor) -> Tensor:
        """(N, C), of which only N is read -> (N, E)."""
        return self.bias.expand(len(pooled), -1)


def build_router(options: Union[str, dict], in_channels: int, start: Sequence[float], *, scale: float) -> Router:
    """The router of one node.

    Args:
        options: ``'linear'``, ``'bias'``, or a dict of the options ``norm`` and ``dynamic`` of :class:`Router`.
        in_channels, start, scale: Of the router.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """
    if options == 'bias':
        return BiasRouter(in_channels, start, scale=scale)
    if options == 'linear':
        options = {}
    if not isinstance(options, Mapping):
        raise ValueError(f"router must be 'linear', 'bias' or a dict of options, got {options!r}")
    unknown = set(options) - {'norm', 'dynamic'}
    if unknown:
        raise ValueError(f"router takes the options 'norm' and 'dynamic', got {sorted(unknown)}")
    return Router(in_channels, start, scale=scale, **options)


def edge_logit(weight: float, scale: float) -> float:
    """The logit that a router turns into this weight.

    Raises:
        ValueError: If the weight does not lie in (0, scale).
    """
    if not 0 < weight < scale:
        raise ValueError(f'a router can only give weights in (0, {scale}), got {weight}')
    return math.log(weight) - math.log(scale - weight)
