"""The ResNets for 32 x 32 pictures (He et al., CVPR 2016, section 4.2), on MMDetection's ResNet."""
from typing import Sequence

import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock
from torch import Tensor, nn

from ..registry import MODELS

SHORTCUTS = ('A', 'B')


class PadShortcut(nn.Module):
    """Option A: every stride-th pixel, and new channels of zeros on both sides. No parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, ::self.stride, ::self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


@MODELS.register_module()
class ResNetCIFAR(ResNet):
    """Three stages of 16, 32 and 64 channels, one stride-1 convolution as the stem.

    Args:
        depth: 20, 32, 44, 56 or 110: 6n + 2 layers for n blocks a stage.
        shortcut: Where the width changes: ``'A'``, parameter-free, or ``'B'``, a 1x1 convolution.
        norm_eval: As in the parent, but off by default: these nets are trained, not fine-tuned.
        **kwargs: The parent's.

    Raises:
        ValueError: For another ``shortcut``; KeyError for another depth, as the parent.
    """

    arch_settings = {depth: (BasicBlock, ((depth - 2) // 6, ) * 3) for depth in (20, 32, 44, 56, 110)}

    def __init__(self,
                 depth: int,
                 *,
                 shortcut: str = 'A',
                 base_channels: int = 16,
                 num_stages: int = 3,
                 strides: Sequence[int] = (1, 2, 2),
                 dilations: Sequence[int] = (1, 1, 1),
                 out_indices: Sequence[int] = (2, ),
                 norm_eval: bool = False,
                 **kwargs) -> None:
        if shortcut not in SHORTCUTS:
            raise ValueError(f'shortcut must be one of {SHORTCUTS}, got {shortcut!r}')
        self.shortcut = shortcut
        super().__init__(
            depth, base_channels=base_channels, num_stages=num_stages, strides=strides,
            dilations=dilations, out_indices=out_indices, norm_eval=norm_eval, **kwargs)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        self.conv1 = build_conv_layer(
            self.conv_cfg, in_channels, stem_channels, 3, padding=1, bias=False)
        self.norm1_name, norm1 = build_norm_layer(self.norm_cfg, stem_channels, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()

    def make_res_layer(self, **kwargs) -> nn.Module:
        stage = super().make_res_layer(**kwargs)
        if self.shortcut == 'A' and stage[0].downsample is not None:
            stage[0].downsample = PadShortcut(kwargs['inplanes'], kwargs['planes'],
                                              kwargs['stride'])
        return stage
