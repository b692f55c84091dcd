"""CIFAR ResNets that wire themselves (DG-Net)."""
from ..registry import MODELS
from .dg_backbone import DGBackbone
from .families import ResNetFamily
from .resnet_cifar import ResNetCIFAR


@MODELS.register_module()
class DGResNetCIFAR(DGBackbone, ResNetFamily, ResNetCIFAR):
    """CIFAR ResNet (depth 20, 32, 44, 56, 110) with wired stages.

    Takes the options of :class:`mmdyn.backbones.resnet_cifar.ResNetCIFAR` and of
    :class:`mmdyn.backbones.dg_backbone.DGBackbone`. Shortcuts of option A, too, are those of a
    stage's first block alone, which is the input node and runs as a whole.
    """
