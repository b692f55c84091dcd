"""The search for the value that meets a budget: one number for all gates, or for all edges of wired stages."""
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

# A budget is met by what lies no more than this below it.
TOLERANCE = 0.005
MAX_PASSES = 12
# Shares are quotients of whole numbers; this is what their rounding may cost.
ROUNDING = 1e-9


class Reached(NamedTuple):
    """A value, and its cost.

    Attributes:
        value: Larger values close more.
        share: Of the dense cost.
    """
    value: float
    share: float


class Measured(Protocol):
    """What images have shown at a value.

    Attributes:
        share: Their cost as a share of the dense cost.
        turns: The values at which their gates, or edges, would open or close.
    """

    @property
    def share(self) -> float: ...

    @property
    def turns(self) -> np.ndarray: ...


def find_value(budget: float, measure: Callable[[float], Measured], lowest: float, highest: float) -> Reached:
    """The value whose cost comes nearest to a budget from below; the highest where even that costs more.

    What opens early moves the features that are read later, so that the cost of a value is only known once it has been
    measured. Between two values that enclose the budget the next is chosen so that it lies between two turns that were
    seen: in turn by the share of them that is to close, and half way.

    Args:
        budget: Share of the dense cost.
        measure: Runs images at a value.
        lowest: Value at which the most runs.
        highest: Value at which the least runs.
    """
    low, high = Reached(lowest, measure(lowest).share), Reached(highest, measure(highest).share)
    if low.share <= budget + ROUNDING:
        return low
    if high.share > budget + ROUNDING:
        return high
    for attempt in range(MAX_PASSES):
        turns = np.unique(np.concatenate([measure(end.value).turns for end in (low, high)]))
        turns = turns[(low.value < turns) & (turns < high.value)]
        if budget - high.share <= TOLERANCE or len(turns) < 2:  # one turn is the step from one end to the other
            break
        cuts = (turns[:-1] + turns[1:]) / 2
        place = 0.5 if attempt % 2 else (low.share - budget) / (low.share - high.share)
        value = float(cuts[round(place * (len(cuts) - 1))])
        found = Reached(value, measure(value).share)
        low, high = (low, found) if found.share <= budget + ROUNDING else (found, high)
    return high
