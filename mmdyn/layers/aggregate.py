"""Aggregation in a wired stage, with a backward pass of its own (DG-Net).

Autograd alone would keep the input of every node next to the output of every node, and would add
up n(n+1)/2 gradient maps one by one. Here a stage keeps the node outputs in one buffer, each once.
The backward pass recomputes a node's input from them (:class:`AggregateConv`), and sums the
gradient of a node's output over its consumers at once (:class:`Publish`). The gradient of x_j
takes the place of y_j in the buffer: by then, nothing needs y_j any more.

Maps pass from function to function through :class:`mmdyn.layers.stage_maps.StageMaps`. What
autograd sees instead is a token, an empty tensor: y_i -> row i -> x_{i+1} -> y_{i+1} -> ... ->
output. It makes the backward pass visit the nodes from last to first, so that all consumers of y_i
are done before y_i is.
"""
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..functional.graph import edge_dots
from ..functional.torch_versions import autocast_dtype, has_hooks
from .stage_maps import StageMaps


class Publish(Function):
    """Stores the output of a node; returns a token and the pooled output for the router.

    Forward: (stage, i, branch, shortcut or None, rectify, pool, pooling weights) -> token, (N, C).
    The output is ``branch + shortcut``, rectified if asked for; ``pool`` averages it with the
    (N, H * W) weights.
    """

    @staticmethod
    def forward(ctx: Any, stage: StageMaps, i: int, branch: Tensor, shortcut: Optional[Tensor],
                rectify: bool, pool: Callable[[Tensor], Tensor],
                pooling: Tensor) -> tuple[Tensor, Tensor]:
        y = stage.write(i, branch, shortcut, rectify)
        ctx.set_materialize_grads(False)
        ctx.stage, ctx.i, ctx.rectify = stage, i, rectify
        ctx.dtypes = branch.dtype, None if shortcut is None else shortcut.dtype
        # `.data`: the other slots of the buffer are written later, which must not count as a
        # change of this one. Saved also where only the stage reads it: whoever counts what is
        # kept for the backward pass, through saved_tensors_hooks, is to see every map.
        ctx.save_for_backward(y.data, pooling)
        return branch.new_empty(0), pool(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Optional[Tensor], pooled: Optional[Tensor]) -> tuple:
        stage: StageMaps = ctx.stage
        stage.begin_backward()
        y, pooling = ctx.saved_tensors
        total = stage.output_gradient(ctx.i)
        if total is None and pooled is None:
            return (None,) * 7
        gradient = torch.zeros_like(y) if total is None else stage.unflatten(total)
        if pooled is not None:
            height, width = y.shape[2:]
            gradient.addcmul_(pooled.to(y.dtype)[:, :, None, None],
                              pooling.to(y.dtype).view(-1, 1, height, width))
        if ctx.rectify:
            torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
        branch, shortcut = ctx.dtypes
        to_shortcut = None if shortcut is None else gradient.to(shortcut)
        return None, None, gradient.to(branch), to_shortcut, None, None, None


class Weigh(Function):
    """Row i of the adjacency: (stage, i, row (N, n-1-i), token) -> token.

    The weights' values are in the stage already; this gives them their gradient.
    """

    @staticmethod
    def forward(ctx: Any, stage: StageMaps, i: int, row: Tensor, token: Tensor) -> Tensor:
        ctx.stage, ctx.i, ctx.dtype = stage, i, row.dtype
        return token.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, token: Tensor) -> tuple:
        ctx.stage.begin_backward()
        row = ctx.stage.row_gradient(ctx.i)
        return None, None, None if row is None else row.to(ctx.dtype), token


class Aggregate(Function):
    """What vertex j reads: (stage, j, token, weights (N, n) or None) -> x_j.

    For the output, whose weights get their gradient here, and for nodes whose first layer is not
    a plain convolution; the input of these is stored by that layer.
    """

    @staticmethod
    def forward(ctx: Any, stage: StageMaps, j: int, token: Tensor,
                weights: Optional[Tensor]) -> Tensor:
        x = stage.read_anew(j)
        ctx.set_materialize_grads(False)
        ctx.stage, ctx.j = stage, j
        ctx.token, ctx.dtype = token.new_empty(0), None if weights is None else weights.dtype
        if stage.rectify_inputs:
            ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Optional[Tensor]) -> tuple:
        stage: StageMaps = ctx.stage
        if gradient is None:
            return None, None, ctx.token, None
        stage.begin_backward()
        if stage.rectify_inputs:
            gradient = torch.ops.aten.threshold_backward(gradient, ctx.saved_tensors[0], 0)
        if ctx.j < stage.nodes:
            stage.gradient(ctx.j).copy_(gradient)
            return None, None, ctx.token, None
        dots = edge_dots(stage.maps, stage.set_output_gradient(gradient))
        return None, None, ctx.token, dots.to(ctx.dtype)


class AggregateConv(Function):
    """Aggregation and the convolution that reads it; what is read is not stored.

    Forward: (stage, j, token, weight, bias or None, (stride, padding, dilation), groups) ->
    the convolution of x_j, and x_j itself (for the shortcut of a whole block).
    """

    @staticmethod
    def forward(ctx: Any, stage: StageMaps, j: int, token: Tensor, weight: Tensor,
                bias: Optional[Tensor], geometry: tuple, groups: int) -> tuple[Tensor, Tensor]:
        x = stage.read(j)
        ctx.set_materialize_grads(False)
        ctx.stage, ctx.j, ctx.token = stage, j, token.new_empty(0)
        ctx.geometry, ctx.groups = geometry, groups
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(weight)
        with torch.autocast(x.device.type, enabled=False):
            return torch.conv2d(x.to(weight.dtype), weight, bias, *geometry, groups), x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, features: Optional[Tensor], direct: Optional[Tensor]) -> tuple:
        stage: StageMaps = ctx.stage
        stage.begin_backward()
        weight, = ctx.saved_tensors
        wanted = [True, ctx.needs_input_grad[3], ctx.needs_input_grad[4]]
        to_weight = to_bias = None
        # Only the gradient of a weight, and that of a ReLU, read the values of x_j.
        x = stage.read(ctx.j) if wanted[1] or stage.rectify_inputs else stage.output(0)
        if features is not None:
            gradient, to_weight, to_bias = torch.ops.aten.convolution_backward(
                features, x.to(weight.dtype), weight, ctx.bias_sizes, *ctx.geometry, False, [0, 0],
                ctx.groups, wanted)
            if direct is not None:
                torch.add(gradient, direct, out=stage.gradient(ctx.j))
            elif stage.rectify_inputs:
                torch.ops.aten.threshold_backward.grad_input(
                    gradient.to(x.dtype), x, 0, grad_input=stage.gradient(ctx.j))
            else:
                stage.gradient(ctx.j).copy_(gradient)
        elif direct is not None:
            stage.gradient(ctx.j).copy_(direct)
        return None, None, ctx.token, to_weight, to_bias, None, None


def fuses(conv: nn.Module) -> bool:
    """Whether :class:`AggregateConv` does the same as calling this module."""
    if type(conv) is not nn.Conv2d or conv.padding_mode != 'zeros' or isinstance(conv.padding, str):
        return False
    return not has_hooks(conv)


def aggregate_conv(stage: StageMaps, j: int, token: Tensor,
                   conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """:class:`AggregateConv` with a module's parameters, in the dtype that autocast wants."""
    weight, bias, device = conv.weight, conv.bias, token.device.type
    dtype = autocast_dtype(device)
    if dtype is not None and weight.dtype != torch.float64:
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    geometry = (conv.stride, conv.padding, conv.dilation)
    return AggregateConv.apply(stage, j, token, weight, bias, geometry, conv.groups)
