"""CIFAR ResNets with gated blocks (ConvNet-AIG, section 4.1)."""
from ..registry import MODELS
from .aig_backbone import AIGBackbone
from .families import ResNetFamily
from .resnet_cifar import ResNetCIFAR


@MODELS.register_module()
class AIGResNetCIFAR(AIGBackbone, ResNetFamily, ResNetCIFAR):
    """CIFAR ResNet (depth 20, 32, 44, 56, 110) with gated blocks; static with ``target_rates=1``.

    Takes the options of :class:`mmdyn.backbones.resnet_cifar.ResNetCIFAR` and of
    :class:`mmdyn.backbones.aig_backbone.AIGBackbone`.
    """
