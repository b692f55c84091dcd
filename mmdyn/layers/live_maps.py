"""The maps of a wired stage at evaluation, where nothing runs or is read that is closed (DG-Net)."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from .conditional import gather, portion_size, portions
from .flat_maps import flatten, unflatten, write_sum
from .residual import Residual
from .workspace import Workspace


class LiveMaps:
    """The node outputs of one stage in one forward: of each node, those of the images that it is alive for.

    Only the maps behind open edges are read, image by image, as suits a CPU's cache; one open edge of weight 1 is read
    without a copy. The decisions are read by the host. Has no backward pass. On GPUs, see
    :class:`mmdyn.layers.batched_maps.BatchedMaps`.

    Args:
        nodes: n.
        adjacency: (N, n+1, n+1); row i is filled in when node i has run.
        whole_blocks: Whether a node is a whole block, or its branch alone; node 0 always is a whole one.
        rectify_inputs: Whether nodes read ReLU of the aggregated sum.
        workspace: Memory for the outputs that is used again by the next forward; None for memory of their own, which is
            never written to again.
    """

    def __init__(self, nodes: int, adjacency: Tensor, *, whole_blocks: bool, rectify_inputs: bool,
                 workspace: Optional[Workspace]) -> None:
        self.nodes = nodes
        self.adjacency = adjacency
        self.whole_blocks = whole_blocks
        self.rectify_inputs = rectify_inputs
        self.workspace = workspace
        self._buffer: Optional[Tensor] = None  # (n - 1, N, C * H * W)
        self._flat: list[Tensor] = []  # of each node (M, C * H * W)
        self._rows: list[dict[int, int]] = []  # of each node: image -> its row
        self._images = list(range(len(adjacency)))
        self._runs = [True] * len(adjacency)  # of each of these, whether the block's branch runs

    def run_node(self, i: int, residual: Residual, x: Tensor) -> Tensor:
        """Runs node i on what it reads, (M, C, H, W) for the images that it is alive for: (M, C', H', W')."""
        if i > 0 and not len(x):
            return self._allocate(i, x, 0)  # dead for all images
        if not all(self._runs):
            return self._run_some(i, residual, x)
        whole = i == 0 or self.whole_blocks
        y: Optional[Tensor] = None
        done = 0
        for part in x.split(portion_size(x)):
            branch = residual.branch(part)
            shortcut = residual.shortcut(part) if whole and residual.has_shortcut else None
            if y is None:
                y = self._allocate(i, branch, len(x))
            write_sum(y[done:done + len(part)], branch, shortcut, rectify=whole and residual.activation is not None)
            done += len(part)
        return y

    def _run_some(self, i: int, residual: Residual, x: Tensor) -> Tensor:
        """A whole block whose gate is shut for some images: it hands on what it reads of them."""
        y = self._allocate(i, x, len(x))
        y.copy_(x)
        for rows in portions([row for row, runs in enumerate(self._runs) if runs], x):
            branch = residual.branch(gather(x, rows))
            y.index_add_(0, torch.tensor(rows, device=y.device), branch.to(y.dtype))
        return residual.activate(y)

    def _allocate(self, i: int, like: Tensor, number: int) -> Tensor:
        if self._buffer is None:
            self._make_buffer(like, self.nodes - 1)
        if i < self.nodes - 1:
            flat = self._buffer[i][:number]
        else:  # the last node's output does not lie with the others: it becomes the stage's output
            flat = self._buffer.new_empty(number, self._buffer.shape[2])
        self._flat.append(flat)
        self._rows.append({n: row for row, n in enumerate(self._images)})
        return unflatten(flat, self.shape, self.channels_last)

    def _make_buffer(self, like: Tensor, nodes: int) -> None:
        self.shape = like.shape
        self.channels_last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
        size = (nodes, len(self.adjacency), like.shape[1:].numel())
        self._buffer = like.new_empty(size) if self.workspace is None else self.workspace.take(like, size)

    def keep(self, i: int, y: Tensor) -> tuple[Tensor, Sequence[int]]:
        """Keeps node i's output, which a hook may have replaced; returns what to decide from, and of which images."""
        self._flat[i] = flatten(y, self.channels_last)
        return y, self._images

    def read(self, j: int, *, gate: Optional[Tensor], scale: Optional[Tensor]) -> Tensor:
        """What node j reads, for the M images that it is alive for.

        Args:
            j: The node.
            gate: (N,), whether its gate is open. A branch whose gate is shut is dead, a whole block hands on what it reads.
            scale: (N,), what all that it reads is multiplied by, if its column is bounded.

        Returns:
            (M, C, H, W); may lie in the buffer.
        """
        columns = scaled(self.adjacency[:, :j, j], scale)
        weights = self._find_images(columns, gate)
        return self._sum(columns, weights)

    def _find_images(self, columns: Tensor, gate: Optional[Tensor]) -> list[list[float]]:
        """Finds out for which images a node is alive; returns the weights with which it reads, image by image."""
        if gate is not None:
            columns = torch.cat([columns, gate[:, None].to(columns.dtype)], dim=1)
        weights = columns.tolist()  # once for both
        is_open = [bool(row.pop()) for row in weights] if gate is not None else [True] * len(weights)
        self._images = [n for n, row in enumerate(weights) if any(row) and (is_open[n] or self.whole_blocks)]
        self._runs = [is_open[n] for n in self._images]
        return weights

    def _sum(self, columns: Tensor, weights: list[list[float]]) -> Tensor:
        """(M, C, H, W): the weighted sums of the outputs, for the images that were found."""
        images = self._images
        sources = {tuple((i, w) for i, w in enumerate(weights[n]) if w) for n in images}
        if len(sources) == 1:
            (only, weight), *others = sources.pop()
            if not others and weight == 1:
                rows = self._rows[only]
                x = gather(unflatten(self._flat[only], self.shape, self.channels_last), [rows[n] for n in images])
                return torch.relu(x) if self.rectify_inputs else x
        flat = self._buffer.new_empty(len(images), self._buffer.shape[2])
        for out, n in zip(flat, images):
            self._accumulate(n, weights[n], out)
        return self._rectified(flat)

    def read_output(self, *, scale: Optional[Tensor]) -> Tensor:
        """(N, C, H, W): the stage's output, scaled as in :meth:`read`. The other maps are given back."""
        columns, last = scaled(self.adjacency[:, :-1, -1], scale), self._flat[-1]
        weights, self._images = columns.tolist(), list(range(len(columns)))
        # In place in the last node's output, unless a hook may have kept it.
        if self.workspace is not None and len(last) == len(weights) and any(row[-1] for row in weights):
            for n, row in enumerate(weights):
                own = row.pop()
                if own not in (0, 1):
                    last[n].mul_(own)
                self._accumulate(n, row, last[n], keep=bool(own))
            out = self._rectified(last)
        else:
            out = self._sum(columns, weights)
        if self.workspace is not None:
            if out.untyped_storage().data_ptr() == self._buffer.untyped_storage().data_ptr():
                out = out.clone()
            self.workspace.give(self._buffer)
        return out

    def _rectified(self, flat: Tensor) -> Tensor:
        x = unflatten(flat, self.shape, self.channels_last)
        return x.relu_() if self.rectify_inputs else x

    def _accumulate(self, n: int, weights: Sequence[float], out: Tensor, *, keep: bool = False) -> None:
        """Writes (or adds) to ``out`` the weighted sum of the nodes' maps of image n."""
        # Half precision would lose a little with every addition.
        total = out.to(torch.promote_types(out.dtype, torch.float32))
        for i, weight in enumerate(weights):
            if weight and keep:
                total.add_(self._flat[i][self._rows[i][n]], alpha=weight)
            elif weight:
                torch.mul(self._flat[i][self._rows[i][n]], weight, out=total)
                keep = True
        if total is not out:
            out.copy_(total)


def scaled(columns: Tensor, scale: Optional[Tensor]) -> Tensor:
    return columns if scale is None else columns * scale[:, None]
