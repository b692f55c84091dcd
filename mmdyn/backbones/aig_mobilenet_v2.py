"""MobileNetV2 with gated blocks (ConvNet-AIG)."""
from mmdet.models.backbones import MobileNetV2

from ..registry import MODELS
from .aig_backbone import AIGBackbone
from .families import MobileNetV2Family


@MODELS.register_module()
class AIGMobileNetV2(AIGBackbone, MobileNetV2Family, MobileNetV2):
    """MMDetection's ``MobileNetV2`` (any widen factor) with gated blocks.

    Gates have the ten blocks with a shortcut; the seven that change stride or width have none, and
    always run. (At a width of 0.25 and less the first block, too, has as many channels after it as
    before, and so a shortcut and a gate.)

    Takes all options of ``mmdet.MobileNetV2``, and those of
    :class:`mmdyn.backbones.aig_backbone.AIGBackbone`.
    """
