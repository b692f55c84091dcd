"""The adjacency of a stage's complete graph: thresholding, liveness, aggregation (DG-Net).

A stage of n nodes has n + 1 vertices, the last one its output. Entry (i, j) of its adjacency is
the weight with which vertex j reads node i; only i < j can be open, and 0 means closed.
"""
from typing import Optional, Union

import torch
from torch import Tensor

from .gumbel import straight_through

# How far from the threshold, in edge weight, an edge still moves a learnable threshold.
_THRESHOLD_WIDTH = 0.1
# Maps of half precision are multiplied in float32, this many elements at a time.
_PIECE = 1 << 18


def cut(weights: Tensor, threshold: Union[float, Tensor], alive: Optional[Tensor] = None) -> Tensor:
    """Closes the edges that are not above the threshold.

    Args:
        weights: (N, E) edge weights.
        threshold: A number, or a scalar tensor if it is learned.
        alive: (N, 1) or (N, E), 1 where the edge's source is alive. A dead source has no output,
            so its edges get neither weight nor gradient.

    Returns:
        (N, E): the weight above the threshold and 0 elsewhere, exactly; with the gradient of the
        weight in both cases, so that a closed edge can reopen. A learned threshold gets the
        gradient of a sigmoid in place of the step.
    """
    value = torch.where(weights > threshold, weights, 0)
    cut_weights = straight_through(value, _surrogate(weights, threshold))
    return cut_weights if alive is None else cut_weights * alive


def cut_output(weights: Tensor, threshold: Union[float, Tensor], alive: Tensor) -> Tensor:
    """:func:`cut` for the edges into the output, the strongest of which always stays open.

    Args:
        weights: (N, n) weight with which the output reads each node, before the threshold.
        threshold: As in :func:`cut`.
        alive: (N, n), 1 where the node is alive; at least one node is.

    Returns:
        (N, n), at least one entry of each row above 0.
    """
    live = torch.where(alive > 0, weights.detach(), -1)
    strongest = torch.zeros_like(live).scatter_(1, live.argmax(dim=1, keepdim=True), 1)
    value = torch.where((live > threshold) | (strongest > 0), weights, 0)
    return straight_through(value, _surrogate(weights, threshold)) * alive


def column_scale(weights: Tensor, bound: float) -> Tensor:
    """What the weights of all edges into a vertex have to be multiplied by for their sum not to pass a bound.

    Args:
        weights: (N, J), not negative.
        bound: Above 0.

    Returns:
        (N,), exactly 1 where the sum is within the bound, and ``bound / sum`` elsewhere.
    """
    return bound / weights.sum(dim=1).clamp(min=bound)


def _surrogate(weights: Tensor, threshold: Union[float, Tensor]) -> Tensor:
    if not isinstance(threshold, Tensor):
        return weights
    constant = weights.detach()
    return weights + constant * torch.sigmoid((constant - threshold) / _THRESHOLD_WIDTH)


def liveness(adjacency: Tensor) -> Tensor:
    """Which nodes are reachable from node 0.

    Args:
        adjacency: (N, n+1, n+1).

    Returns:
        (N, n+1) bool.
    """
    alive = torch.zeros(adjacency.shape[:2], dtype=torch.bool, device=adjacency.device)
    alive[:, 0] = True
    for j in range(1, adjacency.shape[1]):
        alive[:, j] = ((adjacency[:, :j, j] > 0) & alive[:, :j]).any(dim=1)
    return alive


def complete_adjacency(nodes: int, *, mean: bool = False) -> Tensor:
    """Every edge open: at weight 1, or so that each vertex reads the mean of its sources.

    Returns:
        (n+1, n+1) float32.
    """
    adjacency = torch.ones(nodes + 1, nodes + 1).triu(1)
    return adjacency / adjacency.sum(dim=0).clamp(min=1) if mean else adjacency


def chain_adjacency(nodes: int) -> Tensor:
    """Each vertex reads its predecessor at weight 1, as in a static network: (n+1, n+1)."""
    return torch.diag(torch.ones(nodes), 1)


def check_adjacency(adjacency: object, nodes: int, name: str) -> Tensor:
    """Returns a forced adjacency as a float32 tensor, or says what is wrong with it.

    Args:
        adjacency: (n+1, n+1) or (N, n+1, n+1).
        nodes: n.
        name: Of the stage, for the message.

    Raises:
        ValueError: If it is of another shape, has negative, infinite or NaN entries, is not
            strictly upper triangular, or leaves the output without any live input.
    """
    adjacency = torch.as_tensor(adjacency).detach().to(torch.float32)
    size = nodes + 1
    if adjacency.dim() not in (2, 3) or adjacency.shape[-2:] != (size, size):
        raise ValueError(f'the adjacency of {name} must be ({size}, {size}) or (N, {size}, {size}) '
                         f'for its {nodes} nodes and the output, got {tuple(adjacency.shape)}')
    if not (torch.isfinite(adjacency) & (adjacency >= 0)).all():
        raise ValueError(f'the adjacency of {name} must be finite and not negative, got entries '
                         f'from {adjacency.min().item()} to {adjacency.max().item()}')
    if adjacency.tril().any():
        raise ValueError(f'the adjacency of {name} must be strictly upper triangular, got '
                         f'{adjacency.tril().count_nonzero().item()} non-zero entries on or below '
                         'the diagonal')
    if not liveness(adjacency.view(-1, size, size))[:, -1].all():
        raise ValueError(f'the adjacency of {name} leaves the output without input: its last '
                         'column has no open edge from a node that node 0 reaches')
    return adjacency


def aggregate(maps: Tensor, weights: Tensor, out: Optional[Tensor] = None) -> Tensor:
    """Weighted sums of the maps of several nodes, image by image, in one pass over them.

    Args:
        maps: (J, N, M), flattened maps of J nodes.
        weights: (N, J); rounded to the dtype of the maps, which is also that of the result.
        out: (N, M), where to write the result; without gradient.

    Returns:
        (N, M).
    """
    return aggregate_for_all(maps, weights[:, :, None], None if out is None else out[:, None]).squeeze(1)


def aggregate_for_all(maps: Tensor, weights: Tensor, out: Optional[Tensor] = None) -> Tensor:
    """:func:`aggregate` for several readers at once, whose sources are read once.

    Args:
        maps: (J, N, M).
        weights: (N, J, R) for R readers.
        out: (N, R, M), where to write the result; without gradient.

    Returns:
        (N, R, M).
    """
    with torch.autocast(maps.device.type, enabled=False):
        return torch.bmm(weights.transpose(1, 2).to(maps.dtype), maps.transpose(0, 1), out=out)


def edge_dots(maps: Tensor, other: Tensor) -> Tensor:
    """Dot products of one map with the maps of several nodes: the gradients of edge weights.

    Args:
        maps: (J, N, M).
        other: (N, M).

    Returns:
        (N, J), in float32 or wider: in half precision a sum over a map would overflow or drown.
    """
    return edge_dots_for_all(maps, other[None]).squeeze(1)


def edge_dots_for_all(maps: Tensor, others: Tensor) -> Tensor:
    """:func:`edge_dots` for several maps at once.

    Args:
        maps: (J, N, M).
        others: (I, N, M).

    Returns:
        (N, I, J), in float32 or wider.
    """
    with torch.autocast(maps.device.type, enabled=False):
        if maps.dtype in (torch.float32, torch.float64):
            return _dots(maps, others)
        step = max(_PIECE // len(maps), 1)
        pieces = zip(maps.split(step, dim=2), others.split(step, dim=2))
        return sum(_dots(m.float(), o.float()) for m, o in pieces)


def _dots(maps: Tensor, others: Tensor) -> Tensor:
    # The few maps on the left: the other way round, with one of them, `bmm` is an order slower on CPUs.
    return torch.bmm(others.transpose(0, 1), maps.permute(1, 2, 0))
