"""The adjacency of a wired stage in one forward pass (DG-Net)."""
from itertools import compress
from typing import Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..functional.graph import column_scale, cut, cut_output
from ..functional.gumbel import straight_through
from .exploration import explore


class Wiring:
    """The adjacency of one forward pass, filled row by row as the nodes run.

    Entry (i, j) is ``s_j * g_i * a_ij``: the router's weight, 0 where node i is dead; the decision of node i's gate, where
    nodes are branches; and what bounds column j. Columns of branches whose gate is shut have no open edge.

    Args:
        nodes: n.
        like: (N, ...) tensor that gives the number of images, the device and the dtype.
        threshold: An edge is open above it; a scalar tensor if it is learned.
        forced: (1 or N, n+1, n+1) adjacency to be used instead; routers keep their gradient.
        whole_blocks: Whether a node is a whole block. One whose gate is shut hands on what it reads, and so is not dead.
        column_bound: The most that a vertex may read in total, or None.

    Attributes:
        values: (N, n+1, n+1) the weights decided so far, without gradient, and without what acts on whole columns: a node
            whose gate is shut still reads while training.
        gates: Node -> (N,) what its gate has decided.
        explored: Node -> (N,) the same, with the gradient that is to come from what is read; of training that skips.
        scales: Vertex -> (N,) what its column is multiplied by to stay within its bound.
    """

    def __init__(self, nodes: int, like: Tensor, threshold: Union[float, Tensor], forced: Optional[Tensor], *,
                 whole_blocks: bool = False, column_bound: Optional[float] = None) -> None:
        self.nodes, self.threshold = nodes, threshold
        self.values = torch.zeros(
            len(like), nodes + 1, nodes + 1, device=like.device,
            dtype=torch.promote_types(like.dtype, torch.float32))
        self.forced = None if forced is None else forced.to(self.values).expand_as(self.values)
        self.whole_blocks = whole_blocks
        self.column_bound = column_bound if forced is None else None
        self.gates: dict[int, Tensor] = {}
        self.explored: dict[int, Tensor] = {}
        self.scales: dict[int, Tensor] = {}
        self._rows: list[Tensor] = []
        self._read_rows: list[Tensor] = []  # the same, but for the gradient of explored decisions
        self._outputs: list[Tensor] = []
        self._alive: list[Tensor] = []

    def alive(self, i: int) -> Tensor:
        """(N,): 1 where node i has an output of its own; node 0, the input, always has.

        It needs an open edge into it and, if it is a branch with a gate, that gate open, from which it has its gradient.
        """
        if i == 0:
            return torch.ones_like(self.values[:, 0, 0])
        reached = self._reached(i)
        return reached if self.whole_blocks or i not in self.gates else reached * self.gates[i]

    def _reached(self, i: int) -> Tensor:
        return (self.values[:, :i, i] > 0).any(dim=1).to(self.values.dtype)

    def explore(self, i: int, exploration: float) -> Optional[list[int]]:
        """Draws which images the branch of node i, whose gate has decided, runs on; None if all."""
        self.explored[i], runs = explore(self.gates[i], exploration)
        return None if all(runs) else list(compress(range(len(runs)), runs))

    def weighing(self, i: int) -> Optional[Tensor]:
        """(N,): what the branch of node i is multiplied by, if it is a whole block with a gate."""
        return self.explored.get(i, self.gates.get(i)) if self.whole_blocks else None

    def decide(self, i: int, weights: Tensor) -> Tensor:
        """Decides row i.

        Args:
            weights: (N, n-i) the router's weights for nodes i+1, ..., n-1 and the output.

        Returns:
            (N, n-i) row i, with its gradient. Its last entry, into the output, is not decided yet: the edges into the
            output are decided together at the end.
        """
        alive = self.alive(i).to(weights.dtype)[:, None]
        row = read = self._cut(i, weights, alive)
        if i in self.explored and not self.whole_blocks:
            read = self._cut(i, weights, (self._reached(i) * self.explored[i]).to(weights.dtype)[:, None])
        self.values[:, i, i + 1:-1] = row[:, :-1].detach()
        self._rows.append(row)
        self._read_rows.append(read)
        self._outputs.append(weights[:, -1])
        self._alive.append(alive)
        if i + 1 < self.nodes:
            self._bound(i + 1)
        return read

    def _cut(self, i: int, weights: Tensor, alive: Tensor) -> Tensor:
        if self.forced is None:
            return cut(weights, self.threshold, alive)
        return straight_through(self.forced[:, i, i + 1:].to(weights.dtype), weights) * alive

    def decide_output(self) -> None:
        """Decides the edges into the output, once every row is decided."""
        weights, alive = torch.stack(self._outputs, dim=1), torch.cat(self._alive, dim=1)
        if self.forced is None:
            column = cut_output(weights, self.threshold, alive)
        else:
            column = straight_through(self.forced[:, :-1, -1].to(weights.dtype), weights) * alive
        self.values[:, :-1, -1] = column.detach()
        self._column = column
        self._bound(self.nodes)

    def _bound(self, j: int) -> None:
        if self.column_bound is not None:
            self.scales[j] = column_scale(self.into(j), self.column_bound)

    def into(self, j: int) -> Tensor:
        """(N, j): the weights of the edges into vertex j, before its bound, with their gradient."""
        if j == self.nodes:
            return self._column
        return torch.stack([row[:, j - i - 1] for i, row in enumerate(self._read_rows[:j])], dim=1)

    def average(self, j: int, averages: Sequence[Tensor]) -> Tensor:
        """(N, C): the average of what node j reads.

        Averaging is linear, so it is the weighted sum of the averages of its sources, and no map is touched.

        Args:
            j: The node; every row above it is decided.
            averages: Of the outputs of nodes 0, ..., j-1, (N, C) each; 0 where a node is dead.
        """
        weights = self.into(j)
        if j in self.scales:
            weights = weights * self.scales[j][:, None]
        return (weights[:, :, None] * torch.stack(list(averages), dim=1)).sum(dim=1)

    def adjacency(self) -> Tensor:
        """(N, n+1, n+1) with its gradient to the routers and gates."""
        rows = [nn.functional.pad(row[:, :-1], (i + 1, 0)) for i, row in enumerate(self._rows)]
        matrix = torch.cat([torch.stack(rows, dim=1), self._column[:, :, None]], dim=2)
        if self.scales or (self.gates and not self.whole_blocks):
            matrix = matrix * torch.stack([self._of_column(j) for j in range(self.nodes + 1)], dim=1)[:, None]
        return nn.functional.pad(matrix, (0, 0, 0, 1))

    def _of_column(self, j: int) -> Tensor:
        """(N,): what all edges into vertex j are multiplied by."""
        factor = self.scales.get(j, torch.ones_like(self.values[:, 0, 0]))
        if self.whole_blocks or j not in self.gates:
            return factor
        gate = self.gates[j]  # an open probability, under the policy 'expected', weighs the output alone
        return factor * straight_through((gate > 0).to(gate.dtype), gate)
