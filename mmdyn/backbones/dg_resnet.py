"""ResNets that wire themselves (Yuan et al., DG-Net, arXiv 2010.01097)."""
from mmdet.models.backbones import ResNet

from ..registry import MODELS
from .dg_backbone import DGBackbone
from .families import ResNetFamily


@MODELS.register_module()
class DGResNet(DGBackbone, ResNetFamily, ResNet):
    """MMDetection's ``ResNet`` (depth 18, 34, 50, 101, 152) with wired stages.

    Takes all options of ``mmdet.ResNet``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`.

    Example:
        >>> backbone = DGResNet(depth=50).eval()
        >>> features = backbone(torch.rand(2, 3, 64, 64))
        >>> backbone.decisions.adjacency['layer3']  # (2, 7, 7): six nodes and the output
    """
