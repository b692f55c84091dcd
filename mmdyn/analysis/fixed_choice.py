"""What a network without decisions would do at the same compute: a fixed choice of gates, or a fixed wiring."""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..functional.graph import liveness
from .budget_search import ROUNDING


class Choice(NamedTuple):
    """Gates that are closed for every image, all others being open.

    Attributes:
        closed: Names of their blocks.
        loss: Of the model on the images that it is chosen by.
        share: Cost of these images, of the dense cost.
    """
    closed: tuple[str, ...]
    loss: float
    share: float

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: the loss, and of equal ones the cost."""
        return (math.inf if math.isnan(self.loss) else self.loss), self.share


def close_greedily(gates: Sequence[str], try_out: Callable[[tuple[str, ...]], Choice], share: float) -> list[Choice]:
    """Closes gate after gate, each time the one without which the loss is lowest.

    Args:
        gates: Names of the gated blocks, G of them; at most G (G + 1) / 2 + 1 choices are tried.
        try_out: Tells loss and cost of a choice, whose names come in the order of ``gates``.
        share: Of the dense cost; at no more than this the search ends.

    Returns:
        All choices that were tried.
    """
    best = try_out(())
    tried = [best]
    while best.share > share + ROUNDING and len(best.closed) < len(gates):
        closed = set(best.closed)
        step = [try_out(tuple(name for name in gates if name in closed | {candidate}))
                for candidate in gates if candidate not in closed]
        best = min(step, key=lambda choice: choice.rank)
        tried += step
    return tried


def best_within(choices: Iterable[Choice], share: float) -> Choice:
    """The best of the choices that cost no more than a share of the dense cost."""
    return min((choice for choice in choices if choice.share <= share + ROUNDING), key=lambda choice: choice.rank)


def mean_wiring(adjacency: Tensor, cut: float) -> Tensor:
    """One wiring for all images: the mean of theirs.

    Args:
        adjacency: (N, n+1, n+1) of N images.
        cut: Edges that weigh no more are closed, and so are those of nodes that nothing reaches any more; the widest
            path from the first node to the output stays.

    Returns:
        (n+1, n+1).
    """
    mean = adjacency.mean(dim=0)
    wiring = torch.where((mean > cut) | widest_path(mean), mean, 0)
    return wiring * liveness(wiring[None])[0][:, None]


def widest_path(weights: Tensor) -> Tensor:
    """(n+1, n+1) bool: the edges of the path from the first node to the last whose lightest edge weighs the most."""
    last = len(weights) - 1
    width, source = torch.full_like(weights[0], math.inf), [0] * len(weights)
    for j in range(1, len(weights)):
        widths = torch.minimum(width[:j], weights[:j, j])
        width[j], source[j] = widths.max(), int(widths.argmax())
    path = torch.zeros_like(weights, dtype=torch.bool)
    while last:
        path[source[last], last] = True
        last = source[last]
    return path
