"""RegNets with gated blocks (ConvNet-AIG)."""
from mmdet.models.backbones import RegNet

from ..registry import MODELS
from .aig_backbone import AIGBackbone
from .families import RegNetFamily


@MODELS.register_module()
class AIGRegNet(AIGBackbone, RegNetFamily, RegNet):
    """MMDetection's ``RegNet`` with gated blocks.

    Takes all options of ``mmdet.RegNet``, and those of
    :class:`mmdyn.backbones.aig_backbone.AIGBackbone`; ``arch='regnetx_600mf'`` is a preset more.
    """
