"""Straight-through sampling of gates."""
import torch
from torch import Tensor

# Uniform samples are kept this far from 0 and 1. It is the spacing of float32 just below 1, so
# that ``1 - _MARGIN`` is still below 1 and both logarithms of the logistic noise stay finite.
_MARGIN = 2.0**-24


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Returns ``value`` exactly, with the gradient of ``surrogate``.

    Args:
        value: What the forward pass uses; treated as a constant.
        surrogate: Differentiable stand-in of the same shape.
    """
    # The difference is exactly 0, so the value is not rounded; `surrogate + (value -
    # surrogate).detach()` would turn a decision of 1 into 0.99999994.
    return value.detach() + (surrogate - surrogate.detach())


def open_logit(logits: Tensor) -> Tensor:
    """The logit of the open probability, ``logits[..., 1] - logits[..., 0]``, always finite.

    Args:
        logits: (..., 2), index 1 = open. Infinite entries count as the largest finite ones.

    Returns:
        (...), in float32 or wider.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    bound = torch.finfo(logits.dtype).max / 4
    logits = logits.clamp(-bound, bound)
    return logits[..., 1] - logits[..., 0]


def logistic_noise(like: Tensor) -> Tensor:
    """Standard logistic noise: the difference of two independent Gumbel variables.

    Args:
        like: Gives shape, device and dtype (float32 or wider).

    Returns:
        Finite samples of the shape of ``like``, at most 16.7 in magnitude.
    """
    uniform = torch.rand_like(like).clamp_(_MARGIN, 1 - _MARGIN)
    return uniform.log() - torch.log1p(-uniform)


def gumbel_gate(logit: Tensor, temperature: float = 1.0, noise: float = 1.0, reinmax: bool = False) -> Tensor:
    """Samples gates with the Gumbel-softmax trick (ConvNet-AIG, section 3.3).

    With two classes, the difference of their Gumbel variables is one logistic variable, and the
    softmax a sigmoid: half the noise and no exponential that could overflow.

    Args:
        logit: (N,) logits of the open probability, float32 or wider.
        temperature: Of the relaxation that carries the gradient; it does not change the rates.
        noise: Scale of the noise; 1 samples from sigmoid(logit), 0 decides ``logit > 0``.
        reinmax: Carry the gradient of :func:`reinmax_surrogate` instead.

    Returns:
        (N,) decisions, exactly 0 or 1, with the gradient of ``sigmoid((logit + noise) / T)``.
    """
    noisy = logit + noise * logistic_noise(logit) if noise else logit
    decision = (noisy > 0).to(logit.dtype)
    if reinmax:
        return straight_through(decision, reinmax_surrogate(decision, logit, noise or temperature))
    return straight_through(decision, torch.sigmoid(noisy / temperature))


def reinmax_surrogate(decision: Tensor, logit: Tensor, scale: float) -> Tensor:
    """What carries a sampled gate's gradient to second order (ReinMax; Liu et al., NeurIPS 2023, arXiv 2304.08612).

    The gradient of the expected loss is ``p (1 - p) (L(1) - L(0))``. Straight-through puts the derivative where the
    gate is in the place of the difference; where a trained network has all blocks open that derivative is about 0, and
    what closing costs shows at the other end. The mean of both ends is the trapezoid's rule, and in expectation over
    the decision this surrogate's gradient has it.

    Args:
        decision: (N,) 0 or 1, sampled with ``p = sigmoid(logit / scale)``.
        logit: (N,).
        scale: Of the noise.
    """
    p = torch.sigmoid(logit.detach() / scale)
    return torch.where(decision > 0, 1 - p, p) / (2 * scale) * logit
