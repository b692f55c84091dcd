"""ResNeXts that wire themselves (DG-Net)."""
from mmdet.models.backbones import ResNeXt

from ..registry import MODELS
from .dg_backbone import DGBackbone
from .families import ResNetFamily


@MODELS.register_module()
class DGResNeXt(DGBackbone, ResNetFamily, ResNeXt):
    """MMDetection's ``ResNeXt`` (depth 50, 101, 152) with wired stages.

    Takes all options of ``mmdet.ResNeXt``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`.
    """
