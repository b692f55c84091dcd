"""Is each block that may be left out behind a branch of its own? Exporters have dropped and merged some silently."""
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..layers.residual import Residual
from ..layers.wired_stage import WiredBlock
from .exportable_backbone import ExportableBackbone


def operators(graph: Any, kind: str | None = None) -> Iterator[Any]:
    """All nodes, or those of a kind, also those inside the branches of others."""
    for node in graph.node:
        if kind in (None, node.op_type):
            yield node
        for attribute in node.attribute:
            if attribute.HasField('g'):
                yield from operators(attribute.g, kind)


def convolutions_inside(branch: Any) -> tuple[int, int]:
    """How many convolutions an `If` has in its two branches, the one that is taken first."""
    bodies = {attribute.name: attribute.g for attribute in branch.attribute}
    taken, other = (len(list(operators(bodies[name], 'Conv'))) for name in ('then_branch', 'else_branch'))
    return taken, other


def block_branches(graph: Any) -> list[Any]:
    """The `If` nodes of blocks that may be left out, in the order in which they run; others are about edges."""
    return [node for node in graph.node if node.op_type == 'If' and any(convolutions_inside(node))]


def check_branches(graph: Any, run: ExportableBackbone) -> None:
    """Compares the graph's branches with the blocks that are to be behind them.

    Args:
        graph: Of an ONNX model.
        run: The backbone that was exported.

    Raises:
        RuntimeError: If a block that may be left out is not behind a branch of its own with all of its convolutions,
            or if two branches have one decision that are to have two.
    """
    branches = block_branches(graph)
    names = run.conditional_blocks()
    if len(branches) != len(names):
        raise RuntimeError(f'expected {len(names)} If nodes in the graph, one for each block that may be left out, got '
                           f'{len(branches)}')
    for name, branch in zip(names, branches):
        taken, other = convolutions_inside(branch)
        expected = _convolutions(run.backbone.get_submodule(name))
        if taken - other != expected:
            raise RuntimeError(f'expected {expected} convolutions of {name} in its branch, got {taken - other}')
    decisions = {branch.input[0] for branch in branches}
    if len(decisions) < run.number_of_decisions():
        raise RuntimeError(f'expected {run.number_of_decisions()} decisions behind the If nodes, got {len(decisions)}: '
                           'some have been merged')


def _convolutions(block: nn.Module) -> int:
    """Of a block or node, those that do not run if it is left out."""
    kept = Residual(block).projection if not isinstance(block, WiredBlock) else None
    number = sum(isinstance(part, nn.Conv2d) for part in block.modules())
    return number - sum(isinstance(part, nn.Conv2d) for part in kept.modules()) if kept is not None else number
