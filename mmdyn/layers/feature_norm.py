"""What gates and routers make of the averages of features that they read, (N, C), of perhaps one image."""
from torch import Tensor, nn

from ..functional.gumbel import bounded

# Features of half precision end here; larger ones are infinite, and infinity times a weight of zero would be NaN.
_FEATURE_BOUND = 65504.0
NORMS = {'LN': nn.LayerNorm, 'BN': nn.BatchNorm1d, None: nn.Identity}


def normalise(norm: nn.Module, features: Tensor) -> Tensor:
    """(N, C) -> (N, C).

    One image has no batch statistics: in training, too, a batch norm normalises it by the running ones.
    """
    if norm.training and len(features) == 1 and type(norm) is nn.BatchNorm1d:
        return nn.functional.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(features)


def finite_features(pooled: Tensor, layer: nn.Linear) -> Tensor:
    """What a layer reads: bounded, in the precision of its weights."""
    return bounded(pooled, _FEATURE_BOUND).to(layer.weight.dtype)
