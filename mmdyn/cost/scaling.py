"""What a module costs at any input size, found from what it costs at a few."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

# Of these, no two strides have maps whose numbers of cells are in the same proportions.
PROBES = ((256, 256), (97, 161), (330, 479))
STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)

Size = tuple[int, int]


@dataclass(frozen=True)
class Rule:
    """Multiply-adds of a module.

    Attributes:
        macs: For each cell of a map.
        stride: Of the map; None for what does not depend on the size.
    """

    macs: int
    stride: Optional[int]

    def __call__(self, size: Size) -> int:
        return self.macs if self.stride is None else self.macs * _cells(size, self.stride)


def scaling_rules(counts: Sequence[Mapping[str, int]]) -> Optional[dict[str, Rule]]:
    """How the multiply-adds of each module follow from the input size.

    What convolves, or multiplies a matrix cell by cell, is proportional to the cells of a map at some stride, ceil(H / s) *
    ceil(W / s); what reads an average does not depend on the size.

    Args:
        counts: Module name -> multiply-adds, at each of :data:`PROBES`.

    Returns:
        Module name -> its rule, exact at all of them; None if some module has none (attention, for instance).
    """
    rules = {name: _rule([count.get(name, 0) for count in counts]) for name in counts[0]}
    return None if None in rules.values() else rules  # type: ignore[return-value]


def _rule(counts: Sequence[int]) -> Optional[Rule]:
    if len(set(counts)) == 1:
        return Rule(counts[0], None)
    for stride in STRIDES:
        per_cell, rest = divmod(counts[0], _cells(PROBES[0], stride))
        if not rest and all(count == per_cell * _cells(size, stride) for size, count in zip(PROBES, counts)):
            return Rule(per_cell, stride)
    return None


def _cells(size: Size, stride: int) -> int:
    height, width = size
    return -(-height // stride) * -(-width // stride)
