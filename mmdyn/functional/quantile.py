"""Quantiles of values that count differently."""
import torch
from torch import Tensor


def upper_quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """The value above which a share of the weight lies, half-way between its neighbours.

    Args:
        values: (M,).
        weights: (M,), positive.
        share: In [0, 1].

    Returns:
        A scalar tensor, without a host read.
    """
    ordered, order = values.sort(descending=True)
    above = weights[order].cumsum(0)
    last = (above < share * above[-1] + above[-1] * 1e-6).sum()  # so many lie above
    # By an index in one dimension: the host would have to know a scalar.
    lower, upper = ordered[torch.stack([last, last - 1]).clamp(0, len(values) - 1)]
    return torch.lerp(lower, upper, 0.5)
