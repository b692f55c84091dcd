"""The edge weights that a wired stage starts with."""
import torch
from torch import Tensor

from ..functional.graph import chain_adjacency, complete_adjacency


def start_edges(nodes: int, *, static: bool, whole_blocks: bool, edge_scale: float, threshold: float) -> Tensor:
    """What the routers of a stage start with.

    Args:
        nodes: n.
        static: As the static network computes; otherwise all edges are open.
        whole_blocks: Whether a node is a whole block, or its branch alone.
        edge_scale: The largest weight of an edge.
        threshold: An edge is open above it.

    Returns:
        (n, n+1) float64; row i has the edges that node i gives to.

    Raises:
        ValueError: If no weights between threshold and scale do what the static network does.
    """
    if not static and not whole_blocks:
        return torch.full((nodes, nodes + 1), edge_scale / 2, dtype=torch.float64)
    if not static:
        # Of more than 1 / threshold sources, the mean would weigh each below the threshold.
        lowest = min(1.05 * threshold, 0.5 * (threshold + edge_scale))
        mean = complete_adjacency(nodes, mean=True)[:-1].double()
        return mean.clamp(max=0.95 * edge_scale).clamp(min=lowest)
    if not (edge_scale > 1 > threshold):
        raise ValueError("init='static' has edges of weight 1, so it needs edge_scale above 1 "
                         f'and threshold below 1, got {edge_scale} and {threshold}')
    if not whole_blocks:
        return torch.ones(nodes, nodes + 1, dtype=torch.float64)
    if not threshold:
        raise ValueError("init='static' with node='block' starts with edges below the "
                         'threshold, so it needs one above 0, got 0')
    chain = chain_adjacency(nodes)[:-1].double()
    return torch.where(chain > 0, chain, 0.95 * threshold)
