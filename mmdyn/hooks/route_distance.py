"""How far the routed images' outputs are from the open ones', image by image."""
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.global_mean import global_mean


def map_distance(opened: Tensor, routed: Tensor) -> Tensor:
    """Squared difference of feature maps, as a share of the open maps' mean square over the global batch.

    Args:
        opened: (N, C, H, W), the aim: no gradient goes there.
        routed: (N, C, H, W).

    Returns:
        (N,), float32 or wider.
    """
    opened, routed = _wide(opened), _wide(routed)
    scale = _global(opened.square().flatten(1).mean(dim=1)).clamp(min=torch.finfo(opened.dtype).tiny)
    return (routed - opened).square().flatten(1).mean(dim=1) / scale


def logit_distance(opened: Tensor, routed: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the routed classes from the open ones (Hinton et al., arXiv 1503.02531).

    Args:
        opened: (N, classes) logits, the aim.
        routed: (N, classes) logits.

    Returns:
        (N,), float32 or wider.
    """
    aim, log_routed = _wide(opened).log_softmax(dim=1), _wide(routed).log_softmax(dim=1)
    return (aim.exp() * (aim - log_routed)).sum(dim=1)


def score_distance(opened: Tensor, routed: Tensor) -> Tensor:
    """The same of independent sigmoid scores, as dense heads give them, summed over the map.

    Counted in units of the mean sum of the open route's scores in an image of the global batch; where a head has
    thousands of anchors, most of that sum is the background's.

    Args:
        opened: (N, anchors * classes, H, W) logits, the aim.
        routed: (N, anchors * classes, H, W) logits.

    Returns:
        (N,), float32 or wider.
    """
    opened, routed = _wide(opened).flatten(1), _wide(routed).flatten(1)
    aim = opened.sigmoid()
    divergence = (F.binary_cross_entropy_with_logits(routed, aim, reduction='none')
                  - F.binary_cross_entropy_with_logits(opened, aim, reduction='none'))
    return divergence.sum(dim=1) / _global(aim.sum(dim=1)).clamp(min=1.0)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'maps': map_distance,
    'logits': logit_distance,
    'scores': score_distance,
}
# Dimensions of what they compare.
RANKS: dict[str, int] = {'maps': 4, 'logits': 2, 'scores': 4}


def _global(values: Tensor) -> Tensor:
    """Mean of (N,) values over the images of all ranks; of the aim, to which no gradient goes."""
    return global_mean(values.detach()[None])[0]


def _wide(opened: Tensor) -> Tensor:
    return opened.to(torch.promote_types(opened.dtype, torch.float32))
