"""DAGStage: the blocks of a stage, wired by their routers (DG-Net)."""
from typing import Callable, Optional, Protocol, Sequence, Union

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional.graph import cut, cut_output
from ..functional.gumbel import straight_through
from .aggregate import Aggregate, Publish, Weigh, aggregate_conv, fuses
from .stage_maps import StageMaps

NODES = ('branch', 'block')


class Residual(Protocol):
    """What a stage needs of a block; see :class:`mmdyn.layers.residual.Residual`."""

    block: nn.Module
    first_conv: nn.Module
    activation: Optional[nn.Module]
    has_shortcut: bool

    def branch(self, x: Tensor) -> Tensor: ...

    def branch_after_first_conv(self, features: Tensor) -> Tensor: ...

    def shortcut(self, x: Tensor) -> Tensor: ...


class Wiring:
    """The adjacency of one forward pass, filled row by row as the nodes run.

    Args:
        nodes: n.
        like: (N, ...) tensor that gives the number of images, the device and the dtype.
        threshold: An edge is open above it.
        forced: (1 or N, n+1, n+1) adjacency to be used instead; routers keep their gradient.

    Attributes:
        values: (N, n+1, n+1) what has been decided so far, without gradient.
    """

    def __init__(self, nodes: int, like: Tensor, threshold: Union[float, Tensor],
                 forced: Optional[Tensor]) -> None:
        self.nodes, self.threshold = nodes, threshold
        self.values = torch.zeros(
            len(like), nodes + 1, nodes + 1, device=like.device,
            dtype=torch.promote_types(like.dtype, torch.float32))
        self.forced = None if forced is None else forced.to(self.values).expand_as(self.values)
        self._rows: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._alive: list[Tensor] = []

    def alive(self, i: int) -> Tensor:
        """(N,) bool: whether any edge into node i is open; node 0 is the input."""
        if i == 0:
            return torch.ones_like(self.values[:, 0, 0], dtype=torch.bool)
        return (self.values[:, :i, i] > 0).any(dim=1)

    def decide(self, i: int, weights: Tensor) -> Tensor:
        """Decides row i.

        Args:
            weights: (N, n-i) the router's weights for nodes i+1, ..., n-1 and the output.

        Returns:
            (N, n-1-i) row i without the output, whose edges are decided together at the end.
        """
        inner, output = weights[:, :-1], weights[:, -1]
        alive = self.alive(i).to(weights.dtype)[:, None]
        if self.forced is None:
            row = cut(inner, self.threshold, alive)
        else:
            row = straight_through(self.forced[:, i, i + 1:-1].to(inner.dtype), inner) * alive
        self.values[:, i, i + 1:-1] = row.detach()
        self._rows.append(row)
        self._outputs.append(output)
        self._alive.append(alive)
        return row

    def decide_output(self) -> Tensor:
        """(N, n): the edges into the output, once every row is decided."""
        weights, alive = torch.stack(self._outputs, dim=1), torch.cat(self._alive, dim=1)
        if self.forced is None:
            column = cut_output(weights, self.threshold, alive)
        else:
            column = straight_through(self.forced[:, :-1, -1].to(weights.dtype), weights) * alive
        self.values[:, :-1, -1] = column.detach()
        self._column = column
        return column

    def adjacency(self) -> Tensor:
        """(N, n+1, n+1) with its gradient to the routers."""
        rows = [nn.functional.pad(row, (i + 1, 0)) for i, row in enumerate(self._rows)]
        matrix = torch.cat([torch.stack(rows, dim=1), self._column[:, :, None]], dim=2)
        return nn.functional.pad(matrix, (0, 0, 0, 1))


class DAGStage:
    """One forward pass of a wired stage in which every node runs for every image.

    That is what training does, and what masked execution does at evaluation; liveness
    multiplies. :class:`mmdyn.layers.sparse_stage.SparseStage` leaves out what is closed.

    The blocks stay where they are in the model, with a router as child ``router`` each.

    Args:
        residuals: The stage's n >= 2 blocks. The first one changes stride or width: it is the
            input node, always as a whole block.
        node: ``'branch'``: a node is a block's residual branch, the edges are its shortcuts and
            its last activation moves onto what it reads. ``'block'``: a node is a whole block.
        pool: Averages a feature map for the routers: (N, C, H, W) -> (N, C).
        pooling_weights: Gives the (N, H * W) weights of that average for a map of size (H, W).
        threshold: An edge is open above it; a scalar tensor if it is learned.
        forced: (1 or N, n+1, n+1) adjacency to be used instead of the routers' decisions.
        with_cp: Recompute what is inside the nodes in the backward pass.
    """

    def __init__(self, residuals: Sequence[Residual], *, node: str,
                 pool: Callable[[Tensor], Tensor],
                 pooling_weights: Callable[[tuple[int, int]], Tensor],
                 threshold: Union[float, Tensor], forced: Optional[Tensor] = None,
                 with_cp: bool = False) -> None:
        self.residuals = residuals
        self.whole_blocks = node == 'block'
        self.pool, self.pooling_weights = pool, pooling_weights
        self.threshold, self.forced = threshold, forced
        self.with_cp = with_cp and torch.is_grad_enabled()
        self.rectify_inputs = residuals[1].activation is not None and not self.whole_blocks

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the stage.

        Args:
            x: (N, C, H, W) input of the stage.

        Returns:
            The stage's output (N, C', H', W') and its adjacency (N, n+1, n+1).
        """
        nodes = len(self.residuals)
        output, shortcut = self._checkpointed(self.input_node, x)
        wiring = Wiring(nodes, output, self.threshold, self.forced)
        stage = StageMaps(output, nodes, wiring.values, rectify_inputs=self.rectify_inputs)
        pooling = self.pooling_weights((output.shape[2], output.shape[3]))
        for i, residual in enumerate(self.residuals):
            if i > 0:
                output, shortcut = self._checkpointed(self._node, stage, i, token)  # noqa: F821 (of the round before)
            token, pooled = Publish.apply(
                stage, i, output, shortcut, self.rectifies(i), self.pool, pooling)
            row = wiring.decide(i, residual.block.router(pooled))
            token = Weigh.apply(stage, i, row, token)
        return Aggregate.apply(stage, nodes, token, wiring.decide_output()), wiring.adjacency()

    def input_node(self, x: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        """Branch and shortcut of node 0, the whole first block."""
        first = self.residuals[0]
        return first.branch(x), first.shortcut(x) if first.has_shortcut else None

    def rectifies(self, i: int) -> bool:
        """Whether node i ends in its block's activation."""
        return self.residuals[i].activation is not None and (i == 0 or self.whole_blocks)

    def _node(self, stage: StageMaps, i: int, token: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        residual = self.residuals[i]
        if fuses(residual.first_conv):
            features, x = aggregate_conv(stage, i, token, residual.first_conv)
        else:
            x = Aggregate.apply(stage, i, token, None)
            features = residual.first_conv(x)
        branch = residual.branch_after_first_conv(features)
        return branch, x if self.whole_blocks else None

    def _checkpointed(self, function: Callable, *args):
        # Decisions are taken outside of what is recomputed. A node reads its input from the
        # stage, so its checkpoint keeps no map at all.
        if self.with_cp:
            return checkpoint(function, *args, use_reentrant=False)
        return function(*args)
