"""RegNets that wire themselves (DG-Net)."""
from mmdet.models.backbones import RegNet

from ..registry import MODELS
from .dg_backbone import DGBackbone
from .families import RegNetFamily


@MODELS.register_module()
class DGRegNet(DGBackbone, RegNetFamily, RegNet):
    """MMDetection's ``RegNet`` with wired stages.

    Takes all options of ``mmdet.RegNet``, and those of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`; ``arch='regnetx_600mf'`` is a preset more.
    """
