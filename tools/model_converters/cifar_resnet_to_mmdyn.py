"""Converts a CIFAR ResNet of akamaster/pytorch_resnet_cifar10 into a checkpoint for mmpretrain's configs.

    python tools/model_converters/cifar_resnet_to_mmdyn.py resnet56.th cifar-resnet56.pth

DST fits an ImageClassifier with the backbone ResNetCIFAR, AIGResNetCIFAR or DGResNetCIFAR of the same depth.
"""
from conversion import convert_classifier, converter_parser, count_blocks, write_classifier
from mmdyn.backbones.resnet_cifar import ResNetCIFAR
from mmdyn.checkpoints import CheckpointError, read_state_dict
from mmdyn.launch import exit_on_bad_input
from torch import Tensor

RULES = {
    r'(conv1|bn1|layer\d\.\d+\.(?:conv|bn)\d)\.(\w+)': r'backbone.\1.\2',
    # Option B, which that project offers too: a convolution and its norm as the shortcut.
    r'(layer\d\.\d+)\.shortcut\.([01]\.\w+)': r'backbone.\1.downsample.\2',
    r'linear\.(\w+)': r'head.fc.\1',
}


def matching_backbone(weights: dict[str, Tensor]) -> ResNetCIFAR:
    """The network whose depth and shortcuts the keys tell."""
    blocks = count_blocks(weights, 'layer{stage}.{block}.conv1.weight')
    depth = 6 * blocks[0] + 2
    if blocks != [blocks[0]] * 3 or depth not in ResNetCIFAR.arch_settings:
        raise CheckpointError(f'expected three stages of equal length and a depth of {list(ResNetCIFAR.arch_settings)}, '
                              f'the checkpoint has stages of {blocks} blocks')
    return ResNetCIFAR(depth, shortcut='B' if 'layer2.0.shortcut.0.weight' in weights else 'A')


def convert(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The renamed weights, and what they are of."""
    backbone = matching_backbone(weights)
    converted = convert_classifier(weights, RULES, backbone, classifier='linear.weight')
    return converted, f'ResNet-{backbone.depth} for CIFAR, shortcut {backbone.shortcut}'


def main() -> None:
    args = converter_parser(__doc__).parse_args()
    with exit_on_bad_input():
        weights, architecture = convert(read_state_dict(args.src))
    write_classifier(weights, args.dst, architecture, 'akamaster/pytorch_resnet_cifar10')


if __name__ == '__main__':
    main()
