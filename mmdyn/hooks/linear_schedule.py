"""A number that moves linearly over a part of the training."""
from ..layers.gate import check_number


class LinearSchedule:
    """Is ``start`` until ``begin``, moves linearly, and is ``stop`` from ``end`` on.

    The value depends on the progress alone, so resuming needs no state.

    Args:
        start: Value until ``begin``.
        stop: Value from ``end`` on.
        begin: Share of the training, in [0, 1], at which the change begins.
        end: Share of the training at which it ends.
        low: The least that values may be.
        high: The most.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    def __init__(self, start: float, stop: float, begin: float = 0.0, end: float = 1.0, *,
                 low: float = 0.0, high: float = float('inf')) -> None:
        self.start = check_number('start', start, low, high)
        self.stop = check_number('stop', stop, low, high)
        self.begin = check_number('begin', begin, 0.0, 1.0)
        self.end = check_number('end', end, self.begin, 1.0)

    def __call__(self, progress: float) -> float:
        """The value at a share of the training in [0, 1]."""
        if progress >= self.end:
            return self.stop
        if progress <= self.begin:
            return self.start
        share = (progress - self.begin) / (self.end - self.begin)
        return self.start + share * (self.stop - self.start)
