"""ResNets with gated blocks (Veit & Belongie, ECCV 2018, arXiv 1711.11503)."""
from mmdet.models.backbones import ResNet, ResNeXt

from ..registry import MODELS
from .aig_backbone import AIGBackbone
from .families import ResNetFamily


@MODELS.register_module()
class AIGResNet(AIGBackbone, ResNetFamily, ResNet):
    """MMDetection's ``ResNet`` (depth 18, 34, 50, 101, 152) with gated blocks.

    Takes all options of ``mmdet.ResNet``, and those of
    :class:`mmdyn.backbones.aig_backbone.AIGBackbone`.

    Example:
        >>> backbone = AIGResNet(depth=50, target_rates=0.6).eval()
        >>> features = backbone(torch.rand(2, 3, 64, 64))
        >>> backbone.decisions.gates['layer3.1']  # (2,): which of the two images ran this block
    """


@MODELS.register_module()
class AIGResNeXt(AIGBackbone, ResNetFamily, ResNeXt):
    """MMDetection's ``ResNeXt`` (depth 50, 101, 152) with gated blocks."""
