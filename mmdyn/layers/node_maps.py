"""The maps of a wired stage when every node runs for every image, with a backward pass of its own (DG-Net).

Autograd alone would keep the input of every node next to the output of every node, and would add up n(n+1)/2 gradient
maps one by one. Here the outputs stand in one buffer, each once. What a node reads, x_j, is computed again when the
backward pass asks for it (:meth:`NodeMaps.forgetting`), and the gradient of an output is one sum over its readers
(:class:`Aggregate`).
"""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ..functional.graph import aggregate, aggregate_for_all, edge_dots, edge_dots_for_all
from ..functional.pooling import weighted_pool
from ..functional.torch_versions import add_product_
from ..functional.weighing import weigh
from .conditional import gather, select
from .exploration import with_zero_gradients
from .forward_pass import ForwardPass
from .residual import Residual
from .workspace import Workspace

# On CPUs, nodes are worked off in groups of this many: what they exchange with nodes outside of their group is one
# matrix product, which reads those maps once a group and not once a node.
_GROUP = 8


class NodeMaps:
    """The node outputs of one stage in one forward pass.

    Args:
        nodes: n.
        adjacency: (N, n+1, n+1) without gradient; row i is filled in when node i has run.
        forward_pass: That it is part of; it says how outputs are averaged.
        whole_blocks: Whether a node is a whole block, or its branch alone; node 0 always is a whole one.
        rectify_inputs: Whether nodes read ReLU of the aggregated sum.
        with_cp: Recompute what is inside the nodes in the backward pass.
        observed: Whether hooks may keep outputs, and their gradients.
        workspace: Memory for the backward pass, kept for the next one.

    Attributes:
        images: Node -> those that its branch runs on; None, or no entry: all.
    """

    def __init__(self, nodes: int, adjacency: Tensor, forward_pass: ForwardPass, *, whole_blocks: bool,
                 rectify_inputs: bool, with_cp: bool, observed: bool, workspace: Workspace) -> None:
        self.nodes = nodes
        self.adjacency = adjacency
        self.whole_blocks = whole_blocks
        self.rectify_inputs = rectify_inputs
        self.with_cp = with_cp and torch.is_grad_enabled()
        self.forward_pass = forward_pass
        self.observed = observed
        self.workspace = workspace
        self.images: dict[int, Optional[Sequence[int]]] = {}
        self.maps: Optional[Tensor] = None  # (n, N, C * H * W), flattened as they lie in memory
        self.group = nodes + 1
        self._ran: Optional[Tensor] = None  # the last node's output
        self._pooled: Optional[Tensor] = None  # and its average
        self._gate: Optional[Tensor] = None  # of the node that runs next
        self._scales: dict[int, Tensor] = {}  # vertex -> what all that it reads is multiplied by
        self._ahead: dict[int, Tensor] = {}  # first node of a group -> what its nodes read from outside of it
        self._recomputed: dict[int, Tensor] = {}
        self._exchange: dict[str, Tensor] = {}

    def run_node(self, i: int, residual: Residual, x: Tensor) -> Tensor:
        """Runs node i and keeps its output.

        Args:
            i: The node.
            residual: Its block.
            x: (N, C, H, W), what it reads.

        Returns:
            (N, C', H', W'), which lies in the buffer.
        """
        whole = i == 0 or self.whole_blocks
        has_shortcut = whole and residual.has_shortcut
        images = self.images.get(i)
        branch = self._run_branch(i, residual, x, images)
        if self._gate is not None:
            branch, self._gate = weigh(branch, self._gate if images is None else gather(self._gate, images)), None
        if self.with_cp and has_shortcut and residual.projection is not None:
            shortcut = checkpoint(residual.shortcut, x, use_reentrant=False)
        else:
            shortcut = residual.shortcut(x) if has_shortcut else None
        self._ran, self._pooled = Store.apply(
            self, i, branch, images, shortcut, whole and residual.activation is not None,
            self.forward_pass.pooling_weights((branch.shape[2], branch.shape[3])))
        return self._ran

    def _run_branch(self, i: int, residual: Residual, x: Tensor, images: Optional[Sequence[int]]) -> Tensor:
        if images is not None:
            x = gather(x, images)
            if not images:
                return with_zero_gradients(x, residual.block.parameters())
        with self.forgetting(i, x, images):
            if self.with_cp:
                return checkpoint(residual.branch, x, use_reentrant=False)
            features = residual.first_conv(x)
        return residual.branch_after_first_conv(features)

    def pool(self, y: Tensor) -> Tensor:
        """(N, C): averages of what the last block returned, which a hook may have replaced."""
        return self.forward_pass.pool(y) if self._pooled is None or y is not self._ran else self._pooled

    def read(self, j: int, y: Tensor, row: Tensor, link: Optional[Tensor], *, gate: Optional[Tensor],
             scale: Optional[Tensor]) -> tuple[Tensor, Tensor]:
        """What vertex j reads; vertex n is the stage's output.

        Args:
            j: From 1 on.
            y: The output of node j-1, as its block returned it. A hook may have replaced it.
            row: (N, n-j+1), the weights of its edges, with their gradient.
            link: From reading for the vertex before, if there is one.
            gate: (N,), what the branch of node j is multiplied by, if it is a whole block with a gate.
            scale: (N,), what all that it reads is multiplied by, if its column is bounded.

        Returns:
            x_j (N, C, H, W), and the link.
        """
        if y is not self._ran:
            self.maps = self.maps.clone()  # the backward pass needs what the node itself has computed, too
            self.output(j - 1).copy_(y.detach())
        self._ran = self._pooled = None  # or they would hold the graph that holds this
        self._gate = gate
        if scale is not None:
            self._scales[j] = scale.detach()
        x, link = Aggregate.apply(self, j, y, row, link, scale)
        if j == self.nodes:
            self._ahead.clear()
            del self.forward_pass  # whose decisions hold the graph, too
            return torch.relu(x) if self.rectify_inputs else x, link
        with self.forgetting(j, x):
            return x.relu_() if self.rectify_inputs else x, link

    def allocate(self, like: Tensor) -> None:
        """Makes the buffer, for outputs of this shape, dtype, device and memory format."""
        self.shape = like.shape
        self.channels_last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
        self.maps = like.new_empty(self.nodes, len(like), like.shape[1:].numel())
        if like.device.type == 'cpu' and like.element_size() >= 4:
            self.group = _GROUP

    def output(self, i: int) -> Tensor:
        """(N, C, H, W): y_i, in the buffer."""
        # Through `.data`: that other outputs are written later must not count as a change of this one.
        return unflatten(self.maps.data[i], self.shape, self.channels_last)

    def aggregated(self, j: int) -> Tensor:
        """(N, C, H, W): the weighted sum that vertex j reads, in memory of its own."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        x = torch.empty(self.shape, dtype=self.maps.dtype, device=self.maps.device, memory_format=memory_format)
        flat = flatten(x, self.channels_last)
        self._aggregate(j, flat)
        if j in self._scales:
            flat.mul_(self._scales[j][:, None])
        return x

    def _aggregate(self, j: int, flat: Tensor) -> None:
        start = j - j % self.group if j < self.nodes else 0
        if start == 0:
            aggregate(self.maps[:j], self.adjacency[:, :j, j], out=flat)
            return
        if start not in self._ahead:
            weights = self.adjacency[:, :start, start:min(start + self.group, self.nodes)]
            self._ahead = {start: aggregate_for_all(self.maps[:start], weights)}
        if j == start:
            flat.copy_(self._ahead[start][:, 0])
        else:
            aggregate(self.maps[start:j], self.adjacency[:, start:j, j], out=flat).add_(self._ahead[start][:, j - start])

    def forgetting(self, j: int, x: Tensor, images: Optional[Sequence[int]] = None) -> AbstractContextManager:
        """Whatever saves x_j, or some images of it, for its backward pass within this context gets it computed again."""
        if j == 0 or not torch.is_grad_enabled():
            return nullcontext()
        storage, dtype = x.untyped_storage()._cdata, x.dtype

        def pack(saved: Tensor) -> Any:
            is_x = saved.untyped_storage()._cdata == storage and saved.dtype == dtype
            return _Forgotten(self, j, images) if is_x else saved

        def unpack(packed: Any) -> Tensor:
            if not isinstance(packed, _Forgotten):
                return packed
            x = packed.maps.recompute(packed.j)
            return x if packed.images is None else gather(x, packed.images)

        return saved_tensors_hooks(pack, unpack)

    @torch.no_grad()
    def recompute(self, j: int) -> Tensor:
        """x_j; computed once for all that ask for it one after the other."""
        if j not in self._recomputed:
            x = self.aggregated(j)
            self._recomputed = {j: x.relu_() if self.rectify_inputs else x}
        return self._recomputed[j]


class _Forgotten:
    """Stands for x_j where it would have been saved; frees the maps with the last of its kind."""

    def __init__(self, maps: NodeMaps, j: int, images: Optional[Sequence[int]]) -> None:
        self.maps, self.j, self.images = maps, j, images


class Store(Function):
    """Writes a node's output into the buffer.

    (maps, i, branch, images or None, shortcut or None, rectify, weights or None) -> y_i, pooled. The output is
    ``branch + shortcut``, rectified if asked for; with (N, H * W) weights it is averaged as well. The branch is that of
    all images, or of these; it counts as 0 for the others.
    """

    @staticmethod
    def forward(ctx: Any, maps: NodeMaps, i: int, branch: Tensor, images: Optional[Sequence[int]],
                shortcut: Optional[Tensor], rectify: bool,
                weights: Optional[Tensor]) -> tuple[Tensor, Optional[Tensor]]:
        if maps.maps is None:
            maps.allocate(branch)
        y = maps.output(i)
        write_sum(y, branch, shortcut, rectify=rectify, images=images)
        ctx.set_materialize_grads(False)
        ctx.observed, ctx.rectify, ctx.images = maps.observed, rectify, images
        ctx.dtypes = branch.dtype, None if shortcut is None else shortcut.dtype
        ctx.save_for_backward(y.data, weights)
        return y, None if weights is None else weighted_pool(y, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Optional[Tensor], of_pooled: Optional[Tensor]) -> tuple:
        y, weights = ctx.saved_tensors
        private = not ctx.observed  # then it is a sum that nobody else holds
        if gradient is None:
            gradient, private = torch.zeros_like(y), True
        if of_pooled is not None:
            if not private:
                gradient, private = gradient.clone(), True
            add_product_(gradient, of_pooled[:, :, None, None], weights.view(-1, 1, *y.shape[2:]).to(of_pooled.dtype))
        if ctx.rectify and private:
            torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
        elif ctx.rectify:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        branch, shortcut = ctx.dtypes
        of_branch = gradient if ctx.images is None else gather(gradient, ctx.images)
        return (None, None, of_branch.to(branch), None, None if shortcut is None else gradient.to(shortcut), None,
                None)


class Aggregate(Function):
    """What vertex j reads, ``s_j * sum_i A_ij y_i``: (maps, j, y, row, link, scale or None) -> x_j, link.

    Of the j outputs that it reads, autograd sees the last one alone, y_{j-1}. That one cannot have other readers later
    than x_n and earlier than x_j, and the backward pass visits readers from x_n to x_j. So here is the place where all
    readers of y_{j-1} have their gradients: its own is one sum over them, and the gradients of its edges, row j-1 of the
    adjacency, are their dot products with it.

    The gradients of the readers pass from one of these functions to the one before it as the gradient of the link, which
    is (n, N, C * H * W) and has no values: entry k is the gradient of x_{k+1} / s_{k+1}. Each backward pass makes them
    anew.
    """

    @staticmethod
    def forward(ctx: Any, maps: NodeMaps, j: int, y: Tensor, row: Tensor, link: Optional[Tensor],
                scale: Optional[Tensor]) -> tuple:
        ctx.set_materialize_grads(False)
        ctx.j, ctx.nodes, ctx.group, ctx.adjacency = j, maps.nodes, maps.group, maps.adjacency
        ctx.shape, ctx.channels_last = maps.shape, maps.channels_last
        ctx.exchange, ctx.dtypes, ctx.workspace = maps._exchange, (y.dtype, row.dtype), maps.workspace
        # Not on `ctx` itself: so autograd frees the maps once they are used, and whoever counts what is kept sees them.
        ctx.save_for_backward(maps.maps.data, scale)
        return maps.aggregated(j), maps.maps.new_empty(()).expand(maps.maps.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Optional[Tensor], of_readers: Optional[Tensor]) -> tuple:
        maps, scale = ctx.saved_tensors
        i = ctx.j - 1
        of_scale = None
        begins = of_readers is None  # the first of its stage in this backward pass; as a rule that of the output
        if begins:
            of_readers = ctx.workspace.take(maps, maps.shape)
            # What is behind has no gradient in this pass; what is before is written before it is read, and anomaly mode
            # looks at it all the same.
            of_readers[0 if torch.is_anomaly_enabled() else ctx.j:].zero_()
            ctx.exchange.clear()
        if of_x is None:
            of_readers[i].zero_()
        else:
            of_readers[i].copy_(flatten(of_x, ctx.channels_last))
            if scale is not None:
                of_scale = (edge_dots(maps[:ctx.j], of_readers[i]) * ctx.adjacency[:, :ctx.j, ctx.j]).sum(dim=1)
                of_readers[i].mul_(scale[:, None])
        of_y, of_row = _gradients(ctx, maps, of_readers, i, begins)
        if i == 0:
            ctx.exchange.clear()
            ctx.workspace.give(of_readers)
        return (None, None, unflatten(of_y, ctx.shape, ctx.channels_last).to(ctx.dtypes[0]), of_row.to(ctx.dtypes[1]),
                of_readers if ctx.needs_input_grad[4] else None, None if of_scale is None else of_scale.to(scale.dtype))


def _gradients(ctx: Any, maps: Tensor, of_readers: Tensor, i: int, begins: bool) -> tuple[Tensor, Tensor]:
    """(N, C * H * W) of y_i, and (N, n-i) of its edges, from the gradients of the vertices i+1, ..., n that read it."""
    start = i - i % ctx.group
    end = start + ctx.group  # its readers below are of its group
    if end >= ctx.nodes:
        return aggregate(of_readers[i:], ctx.adjacency[:, i, i + 1:]), edge_dots(of_readers[i:], maps[i])
    if begins or i == end - 1:
        outside = of_readers[end - 1:]
        ctx.exchange.update(sums=aggregate_for_all(outside, ctx.adjacency[:, start:end, end:].transpose(1, 2)),
                            dots=edge_dots_for_all(outside, maps[start:end]))
    of_y, of_row = (ctx.exchange[name][:, i - start] for name in ('sums', 'dots'))
    if i == end - 1:
        return of_y.contiguous(), of_row
    inside = of_readers[i:end - 1]
    return (aggregate(inside, ctx.adjacency[:, i, i + 1:end]).add_(of_y),
            torch.cat([edge_dots(inside, maps[i]), of_row], dim=1))


def flatten(maps: Tensor, channels_last: bool) -> Tensor:
    """(M, C, H, W) -> (M, C * H * W), as they lie in memory; a copy if that is in the other memory format."""
    return (maps.permute(0, 2, 3, 1) if channels_last else maps).flatten(1)


def unflatten(flat: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """(M, C * H * W) -> (M, C, H, W), without a copy."""
    _, channels, height, width = shape
    if channels_last:
        return flat.view(len(flat), height, width, channels).permute(0, 3, 1, 2)
    return flat.view(len(flat), channels, height, width)


def write_sum(out: Tensor, branch: Tensor, shortcut: Optional[Tensor], *, rectify: bool,
              images: Optional[Sequence[int]] = None) -> None:
    """Stores a node's output, ``branch (+ shortcut)``, rectified if asked for. Without gradient."""
    if images is not None:
        out.fill_(0) if shortcut is None else out.copy_(shortcut)
        if images:  # sums put in their places, as `index_add` would add atomically
            index = torch.tensor(images, device=out.device)
            out.index_copy_(0, index, (select(out, index) + branch).to(out.dtype))
    elif shortcut is None:
        out.copy_(branch)
    else:
        torch.add(branch, shortcut, out=out)
    if rectify:
        out.relu_()
