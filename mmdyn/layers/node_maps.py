"""The maps of a wired stage when every node runs for every image, with a backward pass of its own (DG-Net).

Autograd alone would keep the input of every node next to the output of every node, and would add up n(n+1)/2 gradient
maps one by one. Here the outputs stand in one buffer, each once. What a node reads, x_j, is computed again when the
backward pass asks for it (:meth:`NodeMaps.forgetting`), and the gradient of an output is one sum over its readers
(:class:`mmdyn.layers.node_map_gradients.Aggregate`).
"""
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ..functional.graph import aggregate, aggregate_for_all
from ..functional.weighing import weigh
from .conditional import gather
from .exploration import with_zero_gradients
from .flat_maps import flatten, unflatten
from .forward_pass import ForwardPass
from .node_map_gradients import Aggregate, Store
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
        self.exchange: dict[str, Tensor] = {}

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
