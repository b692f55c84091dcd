"""The CIFAR ResNets of akamaster/pytorch_resnet_cifar10: their keys, renamed to those here."""
from torch import Tensor

from ..backbones.resnet_cifar import ResNetCIFAR
from ..checkpoints import CheckpointError
from .architectures import count_blocks
from .conversion import Conversion, convert_classifier

RULES = {
    r'(conv1|bn1|layer\d\.\d+\.(?:conv|bn)\d)\.(\w+)': r'backbone.\1.\2',
    # Option B, which that project offers too: a convolution and its norm as the shortcut.
    r'(layer\d\.\d+)\.shortcut\.([01]\.\w+)': r'backbone.\1.downsample.\2',
    r'linear\.(\w+)': r'head.fc.\1',
}


def cifar_depth(blocks: list[int]) -> int:
    """The depth of the CIFAR ResNet whose stages have so many blocks.

    Raises:
        CheckpointError: If there is none.
    """
    depth = 6 * blocks[0] + 2
    if blocks != [blocks[0]] * 3 or depth not in ResNetCIFAR.arch_settings:
        raise CheckpointError(f'expected three stages of equal length and a depth of {list(ResNetCIFAR.arch_settings)}, '
                              f'the checkpoint has stages of {blocks} blocks')
    return depth


def convert(weights: dict[str, Tensor]) -> Conversion:
    depth = cifar_depth(count_blocks(weights, 'layer{stage}.{block}.conv1.weight'))
    shortcut = 'B' if 'layer2.0.shortcut.0.weight' in weights else 'A'
    converted = convert_classifier(weights, RULES, ResNetCIFAR(depth, shortcut=shortcut), classifier='linear')
    return converted, f"type='mmdyn.AIGResNetCIFAR' or 'mmdyn.DGResNetCIFAR', depth={depth}, shortcut='{shortcut}'"
