"""The parts of MMDetection's residual blocks: first convolution, rest of the branch, shortcut.

MMDetection computes a block's branch and shortcut in one closure. Here they are needed apart,
since a gate closes the branch alone, and a node of a wired stage may be the branch alone. The
blocks themselves, and so their parameter names and initialisation, stay MMDetection's.
"""
from typing import Callable, Optional

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import InvertedResidual
from torch import Tensor, nn

from .forward_hooks import has_hooks


class Residual:
    """Reads a block as ``activation(shortcut(x) + branch(x))``.

    Args:
        block: One of MMDetection's ``BasicBlock``, ``Bottleneck`` (ResNet's or ResNeXt's) or
            ``InvertedResidual``.

    Attributes:
        first_conv: The convolution that reads the block's input.
        activation: Applied to the sum, in place; None for linear blocks (MobileNetV2).
        has_shortcut: Whether the block adds its input (an ``InvertedResidual`` that changes
            stride or width does not).

    Raises:
        TypeError: If the block is of another type.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.activation: Optional[nn.Module] = getattr(block, 'relu', None)
        self.has_shortcut = True
        self.projection: Optional[nn.Module] = getattr(block, 'downsample', None)
        if isinstance(block, Bottleneck):
            self.first_conv, self._rest = block.conv1, self._bottleneck_rest
        elif isinstance(block, BasicBlock):
            self.first_conv, self._rest = block.conv1, self._basic_rest
        elif isinstance(block, InvertedResidual):
            self.has_shortcut = block.with_res_shortcut
            self._head = block.expand_conv if block.with_expand_conv else block.depthwise_conv
            self.first_conv, self._rest = self._head.conv, self._inverted_rest
        else:
            raise TypeError('expected a BasicBlock, Bottleneck or InvertedResidual of MMDetection, '
                            f'got {type(block).__name__}')

    @property
    def in_channels(self) -> int:
        """Channels of the block's input."""
        return self.first_conv.in_channels

    def branch(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), without shortcut and last activation."""
        if isinstance(self.block, InvertedResidual):
            return self._after_head(self._head(x))  # called whole, so that its hooks fire
        return self._rest(self.first_conv(x))

    def branch_after_first_conv(self, features: Tensor) -> Tensor:
        """The branch from the output of :attr:`first_conv` on."""
        return self._rest(features)

    def recomputes(self, x: Tensor) -> bool:
        """Whether the block is to be computed again in the backward pass, as MMDetection's does."""
        return bool(getattr(self.block, 'with_cp', False)) and x.requires_grad

    @property
    def last_norm(self) -> Optional[nn.Module]:
        """The norm that ends the branch; None where something follows it, or somebody looks at what it is part of."""
        block = self.block
        if isinstance(block, InvertedResidual):
            last = block.linear_conv
            whole = has_hooks(last) or not isinstance(getattr(block, 'drop_path', None), (nn.Identity, type(None)))
            return None if whole or not last.with_norm or last.with_activation else last.norm
        if isinstance(block, BasicBlock):
            return block.norm2
        return None if block.with_plugins and block.after_conv3_plugin_names else block.norm3

    def branch_before_norm(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), the branch up to :attr:`last_norm`."""
        block = self.block
        if isinstance(block, InvertedResidual):
            return block.linear_conv.conv(self._before_last(self._head(x)))
        out = block.relu(block.norm1(self.first_conv(x)))
        if isinstance(block, BasicBlock):
            return block.conv2(out)
        return block.conv3(self._bottleneck_middle(out))

    def shortcut(self, x: Tensor) -> Tensor:
        """Identity, or the block's projection."""
        return x if self.projection is None else self.projection(x)

    def activate(self, x: Tensor) -> Tensor:
        """The activation of the sum, in place."""
        return x if self.activation is None else self.activation(x)

    def add(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """The block's output; overwrites the branch where MMDetection's block does."""
        return branch + shortcut if self.activation is None else self.activation(branch.add_(shortcut))

    def _basic_rest(self, out: Tensor) -> Tensor:
        block = self.block
        out = block.relu(block.norm1(out))
        return block.norm2(block.conv2(out))

    def _bottleneck_rest(self, out: Tensor) -> Tensor:
        block = self.block
        out = self._bottleneck_middle(block.relu(block.norm1(out)))
        return self._plugins(block.norm3(block.conv3(out)), 'after_conv3_plugin_names')

    def _bottleneck_middle(self, out: Tensor) -> Tensor:
        block = self.block
        out = self._plugins(out, 'after_conv1_plugin_names')
        return self._plugins(block.relu(block.norm2(block.conv2(out))), 'after_conv2_plugin_names')

    def _plugins(self, out: Tensor, position: str) -> Tensor:
        block = self.block
        return block.forward_plugin(out, getattr(block, position)) if block.with_plugins else out

    def _inverted_rest(self, out: Tensor) -> Tensor:
        return self._after_head(_after_conv(self._head)(out))

    def _before_last(self, out: Tensor) -> Tensor:
        block = self.block
        if block.with_expand_conv:
            out = block.depthwise_conv(out)
        return block.se(out) if block.with_se else out

    def _after_head(self, out: Tensor) -> Tensor:
        block = self.block
        out = block.linear_conv(self._before_last(out))
        return block.drop_path(out) if block.with_res_shortcut else out


def _after_conv(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Norm and activation of an mmcv ``ConvModule``, whose convolution has already run."""

    def run(out: Tensor) -> Tensor:
        if module.with_norm:
            out = module.norm(out)
        return module.activate(out) if module.with_activation else out

    return run
