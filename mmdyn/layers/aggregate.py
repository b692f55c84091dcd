"""Aggregation in a wired stage, with a backward pass of its own (DG-Net).

Autograd alone would keep the input of every node next to the output of every node, and would add
up n(n+1)/2 gradient maps one by one. Here a stage keeps the node outputs in one buffer, each once.
The backward pass recomputes a node's input from them (:class:`AggregateConv`), and sums the
gradient of a node's output over its consumers at once (:class:`Publish`). The gradient of x_j
takes the place of y_j in the buffer: by then, nothing needs y_j any more.

Maps pass from function to function through :class:`StageMaps`. What autograd sees instead is a
token, an empty tensor: y_i -> row i -> x_{i+1} -> y_{i+1} -> ... -> output. It makes the backward
pass visit the nodes from last to first, so that all consumers of y_i are done before y_i is.
"""
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.autograd import Function, Variable
from torch.autograd.function import once_differentiable

from ..functional.graph import aggregate, edge_dots


class StageMaps:
    """The node outputs of one stage in one forward pass, each stored once.

    Args:
        like: (N, C, H, W), the output of node 0; gives size, dtype, device and memory format.
        nodes: n.
        adjacency: (N, n+1, n+1) without gradient; row i is filled in when node i has run.
        rectify_inputs: Whether nodes read ReLU of the aggregated sum (``node='branch'``).
        storage: (n, N, C * H * W) to be used for the maps; otherwise it is allocated.

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
        self._end_backward()

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

    def read(self, j: int) -> Tensor:
        """(N, C, H, W): what vertex j reads, x_j."""
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
        self._keep = torch._C._autograd._get_current_graph_task_keep_graph()
        self._gradients = torch.empty_like(self.maps) if self._keep else self.maps
        Variable._execution_engine.queue_callback(self._end_backward)

    def _end_backward(self) -> None:
        # The graph outlives its backward pass for as long as someone holds the loss.
        if getattr(self, '_task', None) is not None and not self._keep:
            self.maps = None
        self._task: Optional[int] = None
        self._keep = False
        self._gradients: Optional[Tensor] = None
        self._output_gradient: Optional[Tensor] = None
        self._highest = 0

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
        if self._highest <= i:
            return None
        dots = edge_dots(self._gradients[i + 1:self._highest + 1], self.maps[i])
        return nn.functional.pad(dots, (0, self.nodes - 1 - self._highest))

    def output_gradient(self, i: int) -> Optional[Tensor]:
        """(N, C * H * W): the gradient of y_i, one sum over its consumers."""
        total, last = None, self._highest + 1
        if last > i + 1:
            total = aggregate(self._gradients[i + 1:last], self.adjacency[:, i, i + 1:last])
        if self._output_gradient is not None:
            weight = self.adjacency[:, i, -1:].to(self._output_gradient.dtype)
            if total is None:
                return self._output_gradient * weight
            total.addcmul_(self._output_gradient, weight)
        return total


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
        y = stage.output(i)
        if shortcut is None:
            y.copy_(branch)
        else:
            torch.add(branch, shortcut, out=y)
        if rectify:
            y.relu_()
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
        return (None, None, gradient.to(branch), None if shortcut is None else gradient.to(shortcut),
                None, None, None)


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
        x = stage.read(j)
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
    return not (conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks
                or conv._backward_pre_hooks or nn.modules.module._has_any_global_hook())


def aggregate_conv(stage: StageMaps, j: int, token: Tensor,
                   conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """:class:`AggregateConv` with a module's parameters, in the dtype that autocast wants."""
    weight, bias, device = conv.weight, conv.bias, token.device.type
    if torch.is_autocast_enabled(device) and weight.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    geometry = (conv.stride, conv.padding, conv.dilation)
    return AggregateConv.apply(stage, j, token, weight, bias, geometry, conv.groups)
