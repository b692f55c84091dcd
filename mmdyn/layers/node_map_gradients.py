"""How a node's output enters the buffer of its stage, and how vertices read from it, with their backward passes."""
from typing import TYPE_CHECKING, Any, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..functional.graph import aggregate, aggregate_for_all, edge_dots, edge_dots_for_all
from ..functional.pooling import weighted_pool
from ..functional.torch_versions import add_product_
from .conditional import gather
from .flat_maps import flatten, unflatten, write_sum

if TYPE_CHECKING:
    from .node_maps import NodeMaps


class Store(Function):
    """Writes a node's output into the buffer.

    (maps, i, branch, images or None, shortcut or None, rectify, weights or None) -> y_i, pooled. The output is
    ``branch + shortcut``, rectified if asked for; with (N, H * W) weights it is averaged as well. The branch is that of
    all images, or of these; it counts as 0 for the others.
    """

    @staticmethod
    def forward(ctx: Any, maps: 'NodeMaps', i: int, branch: Tensor, images: Optional[Sequence[int]],
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
    def forward(ctx: Any, maps: 'NodeMaps', j: int, y: Tensor, row: Tensor, link: Optional[Tensor],
                scale: Optional[Tensor]) -> tuple:
        ctx.set_materialize_grads(False)
        ctx.j, ctx.nodes, ctx.group, ctx.adjacency = j, maps.nodes, maps.group, maps.adjacency
        ctx.shape, ctx.channels_last = maps.shape, maps.channels_last
        ctx.exchange, ctx.dtypes, ctx.workspace = maps.exchange, (y.dtype, row.dtype), maps.workspace
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
