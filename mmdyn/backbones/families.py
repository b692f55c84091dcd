"""MMDetection's families of backbones, as a dynamic one needs them: what runs before the stages, and their names."""
from typing import Union

from mmdet.models.backbones import RegNet
from mmdet.models.backbones.resnext import Bottleneck
from torch import Tensor, nn

from ..layers.max_pool import max_pool


class ResNetFamily(nn.Module):
    """Mixin for ResNet, ResNeXt and the ResNets for CIFAR-10."""

    @property
    def stage_names(self) -> list[str]:
        return self.res_layers

    def run_stem(self, images: Tensor) -> Tensor:
        x = self.stem(images) if self.deep_stem else self.relu(self.norm1(self.conv1(images)))
        return max_pool(self.maxpool, x)


class RegNetFamily(nn.Module):
    """Mixin for RegNet, with a preset more than MMDetection has, and with words where that asserts.

    Args:
        arch: One of :attr:`arch_settings`, ``'regnetx_600mf'``, or a dict of RegNet parameters.
        **kwargs: The parent's.

    Raises:
        ValueError: If there is no such arch.
    """

    arch_settings = dict(
        RegNet.arch_settings,
        regnetx_600mf=dict(w0=48, wa=36.97, wm=2.24, group_w=24, depth=16, bot_mul=1.0))

    def __init__(self, arch: Union[str, dict], **kwargs) -> None:
        if isinstance(arch, str) and arch not in self.arch_settings:
            raise ValueError(f'arch must be one of {list(self.arch_settings)} or a dict of RegNet '
                             f'parameters, got {arch!r}')
        expansion = Bottleneck.expansion
        try:
            super().__init__(arch=arch, **kwargs)
        finally:
            # The parent changes the class while it builds, and leaves it changed if an option is refused.
            Bottleneck.expansion = expansion

    @property
    def stage_names(self) -> list[str]:
        return self.res_layers

    def run_stem(self, images: Tensor) -> Tensor:
        return self.relu(self.norm1(self.conv1(images)))


class MobileNetV2Family(nn.Module):
    """Mixin for MobileNetV2: the last of its stages is a 1x1 convolution."""

    @property
    def stage_names(self) -> list[str]:
        return self.layers

    def run_stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)
