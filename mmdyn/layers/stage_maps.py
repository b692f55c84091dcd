"""The maps of a wired stage: node outputs in the forward pass, gradients in the backward pass."""
from typing import Optional

import torch
from torch import Tensor, nn
from torch.autograd import Variable

from ..functional.graph import aggregate, aggregate_for_all, edge_dots
from ..functional.torch_versions import backward_keeps_graph

# On CPUs, nodes are worked off in blocks of this many: what they get from outside their block is
# one matrix product, which reads those maps once a block and not once a node.
_BLOCK = 8


class StageMaps:
    """The node outputs of one stage in one forward pass, each stored once.

    Args:
        like: (N, C, H, W), the output of node 0; gives size, dtype, device and memory format.
        nodes: n.
        adjacency: (N, n+1, n+1) without gradient; row i is filled in when node i has run.
        rectify_inputs: Whether nodes read ReLU of the aggregated sum (``node='branch'``).
        storage: (n or n-1, N, C * H * W) to be used for the maps; otherwise it is allocated.

    Attributes:
        maps: (n, N, C * H * W), flattened as they lie in memory; None after the backward pass.
    """

    def __init__(self, like: Tensor, nodes: int, adjacency: Tensor, *, rectify_inputs: bool,
                 storage: Optional[Tensor] = None) -> None:
        self.shape = like.shape
        self.channels_last = not like.is_contiguous() and like.is_contiguous(
            memory_format=torch.channels_last)
        self.nodes = nodes
        self.adjacency = adjacency
        self.rectify_inputs = rectify_inputs
        self.maps: Optional[Tensor] = storage
        if storage is None:
            self.maps = like.new_empty(nodes, len(like), like[0].numel())
        blocked = like.device.type == 'cpu' and like.element_size() >= 4
        self._block = _BLOCK if blocked else nodes + 1
        self._task: Optional[int] = None
        self._keep = False
        self._reset()

    def _reset(self) -> None:
        self._gradients: Optional[Tensor] = None
        self._output_gradient: Optional[Tensor] = None
        self._highest = 0
        # First node of the current block -> what its nodes get from outside of it.
        self._reads: dict[int, Tensor] = {}
        self._sums: dict[int, Tensor] = {}
        self._dots: dict[int, Tensor] = {}

    def unflatten(self, flat: Tensor) -> Tensor:
        """(M, C * H * W) -> (M, C, H, W), without a copy."""
        _, channels, height, width = self.shape
        if self.channels_last:
            return flat.view(len(flat), height, width, channels).permute(0, 3, 1, 2)
        return flat.view(len(flat), channels, height, width)

    def flatten(self, features: Tensor) -> Tensor:
        """(M, C, H, W) -> (M, C * H * W); a copy if the memory format is another one."""
        return (features.permute(0, 2, 3, 1) if self.channels_last else features).flatten(1)

    def output(self, i: int) -> Tensor:
        """(N, C, H, W): y_i, a view of the buffer."""
        return self.unflatten(self.maps[i])

    def write(self, i: int, branch: Tensor, shortcut: Optional[Tensor], rectify: bool) -> Tensor:
        """:func:`write_sum` to y_i, which it returns."""
        y = self.output(i)
        y = self.output(i)
        write_sum(y, branch, shortcut, rectify=rectify)
        return y

    def read(self, j: int) -> Tensor:
        """(N, C, H, W): what vertex j reads, x_j; it may be overwritten after the next reads."""
        start = j - j % self._block
        if start == 0 or j == self.nodes:
            self._reads.clear()
            return self.read_anew(j)
        if start not in self._reads:
            self._reads = {start: aggregate_for_all(
                self.maps[:start], self.adjacency[:, :start, start:start + self._block])}
        x = self._reads[start][:, j - start]
        if j > start:
            x = aggregate(self.maps[start:j], self.adjacency[:, start:j, j]).add_(x)
        x = self.unflatten(x.contiguous())
        return x.relu_() if self.rectify_inputs else x

    def read_anew(self, j: int) -> Tensor:
        """:meth:`read`, in memory of its own."""
        maps = self.maps[:j]
        x = self.unflatten(aggregate(maps, self.adjacency[:, :len(maps), j]))
        return x.relu_() if self.rectify_inputs else x

    def begin_backward(self) -> None:
        """To be called by each function's backward before it uses the maps.

        Raises:
            RuntimeError: If the maps have already been overwritten by their gradients.
        """
        task = torch._C._current_graph_task_id()
        if task == self._task:
            return
        if self.maps is None:
            raise RuntimeError(
                'backward through a wired stage a second time: the outputs of its nodes have been '
                'overwritten by their gradients. Say retain_graph=True in the first backward call.')
        self._task = task
        self._keep = backward_keeps_graph()
        self._gradients = torch.empty_like(self.maps) if self._keep else self.maps
        Variable._execution_engine.queue_callback(self._end_backward)

    def _end_backward(self) -> None:
        # The graph outlives its backward pass for as long as someone holds the loss.
        if not self._keep:
            self.maps = None
        self._task = None
        self._reset()

    def gradient(self, j: int) -> Tensor:
        """(N, C, H, W): where to write the gradient of x_j; y_j is lost."""
        self._highest = max(self._highest, j)
        return self.unflatten(self._gradients[j])

    def set_output_gradient(self, gradient: Tensor) -> Tensor:
        """Keeps the gradient of the stage's output; returns it flattened."""
        self._output_gradient = self.flatten(gradient)
        return self._output_gradient

    def row_gradient(self, i: int) -> Optional[Tensor]:
        """(N, n-1-i): the gradients of the weights with which later nodes read node i."""
        last = self._highest + 1
        if last <= i + 1:
            return None
        start, end = self._block_of(i)
        parts = []
        if i + 1 < end:
            parts.append(edge_dots(self._gradients[i + 1:end], self.maps[i]))
        if end < last:
            if start not in self._dots:
                outside = self._gradients[end:last].permute(1, 2, 0)
                self._dots = {start: torch.bmm(self.maps[start:end].transpose(0, 1), outside)}
            parts.append(self._dots[start][:, i - start])
        return nn.functional.pad(torch.cat(parts, dim=1), (0, self.nodes - last))

    def output_gradient(self, i: int) -> Optional[Tensor]:
        """(N, C * H * W): the gradient of y_i, one sum over its consumers."""
        total, last = None, self._highest + 1
        if last > i + 1:
            start, end = self._block_of(i)
            inside = self._gradients[i + 1:end]
            weights = self.adjacency[:, i, i + 1:end]
            if end == last:
                total = aggregate(inside, weights)
            else:
                if start not in self._sums:
                    weights_outside = self.adjacency[:, start:end, end:last].transpose(1, 2)
                    self._sums = {
                        start: aggregate_for_all(self._gradients[end:last], weights_outside)}
                total = self._sums[start][:, i - start]
                total = aggregate(inside, weights).add_(total) if i + 1 < end else total.contiguous()
        if self._output_gradient is not None:
            weight = self.adjacency[:, i, -1:].to(self._output_gradient.dtype)
            if total is None:
                return self._output_gradient * weight
            total.addcmul_(self._output_gradient, weight)
        return total

    def _block_of(self, i: int) -> tuple[int, int]:
        """First node of the block of node i, and the first node behind it that has a gradient."""
        start = i - i % self._block
        return start, min(start + self._block, self._highest + 1)


def write_sum(out: Tensor, branch: Tensor, shortcut: Optional[Tensor], *, rectify: bool) -> None:
    """Stores a node's output, ``branch (+ shortcut)``, rectified if asked for. Without gradient."""
    if shortcut is None:
        out.copy_(branch)
    else:
        torch.add(branch, shortcut, out=out)
    if rectify:
        out.relu_()
