"""Converts a CIFAR ResNet of akamaster/pytorch_resnet_cifar10 into a checkpoint for mmpretrain's configs.

    python tools/model_converters/cifar_resnet_to_mmdyn.py resnet56.th cifar-resnet56.pth

DST fits an ImageClassifier with the backbone ResNetCIFAR, AIGResNetCIFAR or DGResNetCIFAR of the same depth.
"""
from architectures import count_blocks
from conversion import Conversion, convert_classifier, converter_parser, run
from mmdyn.backbones.resnet_cifar import ResNetCIFAR
from mmdyn.checkpoints import CheckpointError
from torch import Tensor

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
    options = dict(depth=cifar_depth(count_blocks(weights, 'layer{stage}.{block}.conv1.weight')),
                   shortcut='B' if 'layer2.0.shortcut.0.weight' in weights else 'A')
    converted = convert_classifier(weights, RULES, ResNetCIFAR(**options), classifier='linear.weight')
    return converted, "type='mmdyn.AIGResNetCIFAR' or 'mmdyn.DGResNetCIFAR', depth={depth}, shortcut='{shortcut}'".format(
        **options)


def main() -> None:
    run(converter_parser(__doc__).parse_args(), 'akamaster/pytorch_resnet_cifar10', convert)


if __name__ == '__main__':
    main()
