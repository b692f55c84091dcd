"""MobileNetV2 that wires itself (DG-Net)."""
from mmdet.models.backbones import MobileNetV2

from ..registry import MODELS
from .dg_backbone import DGBackbone
from .families import MobileNetV2Family


@MODELS.register_module()
class DGMobileNetV2(DGBackbone, MobileNetV2Family, MobileNetV2):
    """MMDetection's ``MobileNetV2`` (any widen factor) with wired stages.

    Its blocks are linear after their sum. So with ``node='branch'`` and every edge at weight 1,
    where it starts, it computes exactly what the static network does. The stages of one block and
    the last 1x1 convolution stay as they are.

    Takes all options of ``mmdet.MobileNetV2``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`.
    """
