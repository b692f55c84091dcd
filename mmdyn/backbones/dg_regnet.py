"""RegNets that wire themselves (DG-Net)."""
from typing import Union

from mmdet.models.backbones import RegNet
from mmdet.models.backbones.resnext import Bottleneck
from torch import Tensor

from ..registry import MODELS
from .dg_backbone import DGBackbone


@MODELS.register_module()
class DGRegNet(DGBackbone, RegNet):
    """MMDetection's ``RegNet`` with wired stages.

    Takes all options of ``mmdet.RegNet``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`.

    Args:
        arch: One of MMDetection's presets, ``'regnetx_600mf'``, or RegNet parameters.
        **kwargs: The others.
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

    def _stem(self, x: Tensor) -> Tensor:
        return self.relu(self.norm1(self.conv1(x)))
