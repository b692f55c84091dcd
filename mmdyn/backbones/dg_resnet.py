"""ResNets that wire themselves (Yuan et al., DG-Net, arXiv 2010.01097)."""
from mmdet.models.backbones import ResNet
from torch import Tensor

from ..functional.max_pool import max_pool
from ..registry import MODELS
from .dg_backbone import DGBackbone


@MODELS.register_module()
class DGResNet(DGBackbone, ResNet):
    """MMDetection's ``ResNet`` (depth 18, 34, 50, 101, 152) with wired stages.

    Takes all options of ``mmdet.ResNet``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`.

    Example:
        >>> backbone = DGResNet(depth=50).eval()
        >>> features = backbone(torch.rand(2, 3, 64, 64))
        >>> backbone.decisions.adjacency['layer3']  # (2, 7, 7): six nodes and the output
    """

    def _stem(self, x: Tensor) -> Tensor:
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        return max_pool(self.maxpool, x)
