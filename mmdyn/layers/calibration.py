"""The logits above which gates open at evaluation: running estimates, for all gates of a backbone at once."""
from typing import Sequence

import torch
from torch import Tensor

from ..functional.host_numbers import minus
from ..functional.gumbel import logistic_noise
from ..functional.quantile import upper_quantile
from .gate import BaseGate, Gate
from .global_mean import global_mean

_BUFFERS = ('quantile', 'spread', 'calibration_steps')


@torch.no_grad()
def follow_quantiles(gates: Sequence[BaseGate], targets: Sequence[float], above: Tensor, distance: Tensor) -> None:
    """One step of the running quantile of each gate (stochastic approximation; Robbins & Monro, 1951).

    Args:
        gates: L gates.
        targets: L target rates.
        above: (L,) shares of the global batch whose logit lies above the quantile.
        distance: (L,) mean distances of these logits from the quantile.
    """
    quantile, spread, steps = _read(gates)
    # Large steps at first, then few enough to follow a gate that is still learning.
    step = (steps + 1).reciprocal().clamp(min=0.02)
    spread = spread + step * (distance - spread)
    _write(gates, quantile + 2 * step * spread * minus(above, targets), spread, steps + 1)


@torch.no_grad()
def share_threshold(gates: Sequence[Gate], logits: Tensor, targets: Sequence[float]) -> None:
    """Moves the one threshold of taught gates to where together they let the mean of their targets of the cost run.

    Args:
        gates: L gates.
        logits: (L, N), what they have said of this batch; while training, the noise that they decide with is added.
        targets: L target rates.
    """
    gate = gates[0]
    if gate.training and gate.noise:
        logits = logits + gate.noise * logistic_noise(logits)
    total = sum(gate.cost for gate in gates)
    share = sum(gate.cost * target for gate, target in zip(gates, targets)) / total
    costs = torch.cat([torch.full_like(row, gate.cost) for gate, row in zip(gates, logits)])
    value = global_mean(upper_quantile(logits.flatten(), costs, share)[None, None])[0]
    quantile, spread, steps = _read(gates)
    step = (steps + 1).reciprocal().clamp(min=0.05)
    _write(gates, quantile + step * (value - quantile), spread, steps + 1)


def _read(gates: Sequence[BaseGate]) -> list[Tensor]:
    return [torch.stack([getattr(gate, name) for gate in gates]) for name in _BUFFERS]


def _write(gates: Sequence[BaseGate], *values: Tensor) -> None:
    for name, value in zip(_BUFFERS, values):
        torch._foreach_copy_([getattr(gate, name) for gate in gates], list(value.unbind()))
