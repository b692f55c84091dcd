"""Straight-through sampling of gates."""
from typing import Any

import torch
from torch import Tensor

# Uniform samples are kept this far from 0 and 1. It is the spacing of float32 just below 1, so
# that ``1 - _MARGIN`` is still below 1 and the logistic noise stays finite.
_MARGIN = 2.0**-24


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Returns ``value`` exactly, with the gradient of ``surrogate``; nothing is computed for it.

    Args:
        value: What the forward pass uses; treated as a constant. The result shares its memory.
        surrogate: Differentiable stand-in of the same shape.
    """
    return _StraightThrough.apply(value, surrogate)


class _StraightThrough(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def bounded(values: Tensor, bound: float) -> Tensor:
    """The values, of which those beyond a bound lie at it; with the gradient of the values themselves."""
    return straight_through(values.detach().clamp(-bound, bound), values)


def open_logit(logits: Tensor) -> Tensor:
    """The logit of the open probability, ``logits[..., 1] - logits[..., 0]``, always finite.

    Args:
        logits: (..., 2), index 1 = open. Infinite entries count as the largest finite ones.

    Returns:
        (...), in float32 or wider.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    closed, opened = bounded(logits, torch.finfo(logits.dtype).max / 4).unbind(dim=-1)
    return opened - closed


def logistic_noise(like: Tensor) -> Tensor:
    """Standard logistic noise: the difference of two independent Gumbel variables.

    Args:
        like: Gives shape, device and dtype (float32 or wider).

    Returns:
        Finite samples of the shape of ``like``, at most 16.7 in magnitude.
    """
    return torch.logit(torch.rand_like(like), eps=_MARGIN)


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
    noisy = torch.add(logit, logistic_noise(logit), alpha=noise) if noise else logit
    decision = (noisy > 0).to(logit.dtype)
    if reinmax:
        return straight_through(decision, reinmax_surrogate(decision, logit, noise or temperature))
    return straight_through(decision, torch.sigmoid(noisy if temperature == 1 else noisy / temperature))


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
