"""Reads the ``gate_groups`` option: which blocks share one gate."""
from collections.abc import Mapping, Sequence
from typing import Optional

from ..layers.residual import Residual

_EXAMPLE = "[['layer3.1', 'layer3.2']]"


def resolve_groups(groups: Optional[Sequence[Sequence[str]]], blocks: Mapping[str, Residual],
                   rates: Mapping[str, Optional[float]]) -> dict[str, str]:
    """Block name -> the block whose gate decides for it, for all but the first block of each group.

    Args:
        groups: Each a list of at least two names of blocks; None for a gate in each block.
        blocks: Name -> residual block, in the order they run.
        rates: Name -> target rate.

    Raises:
        ValueError, TypeError: Saying what was expected and what came: groups that overlap, cross a stage, or hold a
            block that changes the shape or has another rate than the rest.
    """
    leaders: dict[str, str] = {}
    seen: set[str] = set()
    if groups is not None and (isinstance(groups, str) or not isinstance(groups, Sequence)):
        raise TypeError(f"gate_groups must be a list of lists of block names such as {_EXAMPLE}, got {groups!r}")
    for group in groups or ():
        _check_names(group, blocks, seen)
        seen.update(group)
        leader, *followers = sorted(group, key=list(blocks).index)
        for name in group:
            _check_member(name, blocks[name], rates[name], rates[leader], group)
        leaders.update(dict.fromkeys(followers, leader))
    return leaders


def _check_names(group: object, blocks: Mapping[str, Residual], seen: set[str]) -> None:
    if isinstance(group, str) or not isinstance(group, Sequence) or not all(isinstance(name, str) for name in group):
        raise TypeError(f'gate_groups must be lists of block names such as {_EXAMPLE}, got {group!r}')
    if len(group) < 2:
        raise ValueError(f'a group needs at least two blocks, got {list(group)}')
    for name in group:
        if name not in blocks:
            raise ValueError(f'gate_groups: no block {name!r} in this backbone; its blocks are {list(blocks)}')
        if name in seen or list(group).count(name) > 1:
            raise ValueError(f'gate_groups: a block belongs to one group, got {name!r} twice')
    stages = sorted({name.partition('.')[0] for name in group})
    if len(stages) > 1:
        raise ValueError(f'a group lies within one stage, got {list(group)} in {" and ".join(stages)}')


def _check_member(name: str, block: Residual, rate: Optional[float], expected: Optional[float],
                  group: Sequence[str]) -> None:
    if not block.has_shortcut or block.projection is not None:
        raise ValueError(f'gate_groups: block {name!r} changes the shape of its input and cannot be left out with '
                         f'others, got {list(group)}')
    if rate in (0, 1):
        raise ValueError(f'gate_groups: block {name!r} has the target rate {rate:g} and so no gate, got {list(group)}')
    if rate != expected:
        raise ValueError(f'the blocks of a group have one target rate, got {expected} and {rate} in {list(group)}')
