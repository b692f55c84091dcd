"""Norms of what gates and routers read: averages of features, (N, C), of perhaps one image."""
from torch import Tensor, nn

NORMS = {'LN': nn.LayerNorm, 'BN': nn.BatchNorm1d, None: nn.Identity}


def normalise(norm: nn.Module, features: Tensor) -> Tensor:
    """(N, C) -> (N, C).

    One image has no batch statistics: in training, too, a batch norm normalises it by the running ones.
    """
    if norm.training and len(features) == 1 and type(norm) is nn.BatchNorm1d:
        return nn.functional.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(features)
