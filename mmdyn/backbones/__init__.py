"""Dynamic backbones; each subclasses MMDetection's own."""
from ..stack import require_stack

require_stack()  # A clear message, before an import of MMDetection fails with an obscure one.

from mmdet.registry import MODELS as MMDET_MODELS  # noqa: E402

from .aig_mobilenet_v2 import AIGMobileNetV2  # noqa: E402
from .aig_regnet import AIGRegNet  # noqa: E402
from .aig_resnet import AIGResNet, AIGResNeXt  # noqa: E402
from .aig_resnet_cifar import AIGResNetCIFAR  # noqa: E402
from .dg_mobilenet_v2 import DGMobileNetV2  # noqa: E402
from .dg_regnet import DGRegNet  # noqa: E402
from .dg_resnet import DGResNet  # noqa: E402
from .dg_resnet_cifar import DGResNetCIFAR  # noqa: E402
from .dg_resnext import DGResNeXt  # noqa: E402
from .resnet_cifar import ResNetCIFAR  # noqa: E402, F401 (registered, and static)

__all__ = [
    'AIGMobileNetV2', 'AIGRegNet', 'AIGResNet', 'AIGResNeXt', 'AIGResNetCIFAR', 'DGMobileNetV2', 'DGRegNet', 'DGResNet',
    'DGResNetCIFAR', 'DGResNeXt'
]

# For configs without scopes: `custom_imports=dict(imports=['mmdyn.backbones'])` is enough to write
# `type='AIGResNet'`.
for _name in __all__:
    MMDET_MODELS.register_module(module=globals()[_name])
