"""The adjacency of a wired stage in one forward pass (DG-Net)."""
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ..functional.graph import cut, cut_output
from ..functional.gumbel import straight_through


class Wiring:
    """The adjacency of one forward pass, filled row by row as the nodes run.

    Args:
        nodes: n.
        like: (N, ...) tensor that gives the number of images, the device and the dtype.
        threshold: An edge is open above it; a scalar tensor if it is learned.
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
            (N, n-i) row i, with its gradient. Its last entry, into the output, is not decided yet: the edges into the
            output are decided together at the end.
        """
        alive = self.alive(i).to(weights.dtype)[:, None]
        if self.forced is None:
            row = cut(weights, self.threshold, alive)
        else:
            row = straight_through(self.forced[:, i, i + 1:].to(weights.dtype), weights) * alive
        self.values[:, i, i + 1:-1] = row[:, :-1].detach()
        self._rows.append(row)
        self._outputs.append(weights[:, -1])
        self._alive.append(alive)
        return row

    def decide_output(self) -> None:
        """Decides the edges into the output, once every row is decided."""
        weights, alive = torch.stack(self._outputs, dim=1), torch.cat(self._alive, dim=1)
        if self.forced is None:
            column = cut_output(weights, self.threshold, alive)
        else:
            column = straight_through(self.forced[:, :-1, -1].to(weights.dtype), weights) * alive
        self.values[:, :-1, -1] = column.detach()
        self._column = column

    def adjacency(self) -> Tensor:
        """(N, n+1, n+1) with its gradient to the routers."""
        rows = [nn.functional.pad(row[:, :-1], (i + 1, 0)) for i, row in enumerate(self._rows)]
        matrix = torch.cat([torch.stack(rows, dim=1), self._column[:, :, None]], dim=2)
        return nn.functional.pad(matrix, (0, 0, 0, 1))
