"""The maps of a wired stage for a compiler, which plans memory and backward pass itself (DG-Net)."""
from typing import Optional

import torch
from torch import Tensor

from ..functional.graph import aggregate
from ..functional.gumbel import straight_through
from .forward_pass import ForwardPass
from .residual import Residual


class TracedMaps:
    """What :class:`mmdyn.layers.node_maps.NodeMaps` computes, with operations alone that can be captured.

    Args:
        adjacency: (N, n+1, n+1) without gradient; row i is filled in when node i has run.
        forward_pass: That it is part of.
        whole_blocks: Whether a node is a whole block, or its branch alone; node 0 always is a whole one.
        rectify_inputs: Whether nodes read ReLU of the aggregated sum.
    """

    def __init__(self, adjacency: Tensor, forward_pass: ForwardPass, *, whole_blocks: bool, rectify_inputs: bool) -> None:
        self.adjacency = adjacency
        self.pool = forward_pass.pool
        self.whole_blocks = whole_blocks
        self.rectify_inputs = rectify_inputs
        self._outputs: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._gate: Optional[Tensor] = None

    def run_node(self, i: int, residual: Residual, x: Tensor) -> Tensor:
        """Runs node i: (N, C, H, W) -> (N, C', H', W')."""
        branch = residual.branch(x)
        if i > 0 and not self.whole_blocks:
            return branch
        if self._gate is not None:
            branch = branch * self._gate.to(branch.dtype)[:, None, None, None]
        return residual.activate(branch + residual.shortcut(x) if residual.has_shortcut else branch)

    def read(self, j: int, y: Tensor, row: Tensor, link: Optional[Tensor], *, gate: Optional[Tensor],
             scale: Optional[Tensor]) -> tuple[Tensor, None]:
        """What vertex j reads, from the outputs and rows that were given so far."""
        self._gate = gate
        self._outputs.append(y)
        self._rows.append(row)
        edges = torch.stack([row[:, j - i - 1] for i, row in enumerate(self._rows)], dim=1)
        weights = straight_through(self.adjacency[:, :j, j], edges)
        x = aggregate(torch.stack(self._outputs).flatten(2), weights).view(y.shape)
        if scale is not None:
            x = x * scale.to(x.dtype)[:, None, None, None]
        return torch.relu(x) if self.rectify_inputs else x, None
