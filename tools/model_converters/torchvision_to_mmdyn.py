"""Converts a classifier of torchvision (ResNet, ResNeXt, RegNetX or MobileNetV2) for mmdyn's and mmpretrain's configs.

    python tools/model_converters/torchvision_to_mmdyn.py regnet_x_1_6gf.pth regnetx-1.6gf.pth

ResNets and ResNeXts need no conversion to start from ('torchvision://resnet50' works); with it their classifier comes
along, and every key is accounted for. All were trained on RGB images with ImageNet's mean and standard deviation.
regnet_x_400mf, wider than MMDetection's, is refused.
"""
import re

from architectures import (MOBILENET_V2_BLOCKS, MOBILENET_V2_PARTS, RESNET_RULES, count_blocks, mobilenet_v2, regnet,
                           resnet)
from conversion import Conversion, convert_classifier, converter_parser, run
from mmdyn.checkpoints import CheckpointError
from torch import Tensor

REGNET_BLOCK = 'trunk_output.block{stage}.block{stage}-{block}.f.a.0.weight'


def _regnet_part(match: re.Match) -> str:
    stage, block, part, is_norm, field = match.groups()
    number = 'abc'.index(part) + 1
    return f'backbone.layer{stage}.{block}.{("conv", "bn")[int(is_norm)]}{number}.{field}'


REGNET_RULES = {
    r'stem\.0\.(\w+)': r'backbone.conv1.\1',
    r'stem\.1\.(\w+)': r'backbone.bn1.\1',
    r'trunk_output\.block(\d)\.block\1-(\d+)\.f\.([abc])\.([01])\.(\w+)': _regnet_part,
    r'trunk_output\.block(\d)\.block\1-(\d+)\.proj\.([01]\.\w+)': r'backbone.layer\1.\2.downsample.\3',
    r'fc\.(\w+)': r'head.fc.\1',
}


def mobilenet_v2_rules() -> dict[str, str]:
    """torchvision numbers the blocks through; here each stage counts anew."""
    rules, index = {}, 0
    for prefix, part in (('0', 'conv1'), (str(1 + sum(MOBILENET_V2_BLOCKS)), 'conv2')):
        rules[rf'features\.{prefix}\.0\.(\w+)'] = rf'backbone.{part}.conv.\1'
        rules[rf'features\.{prefix}\.1\.(\w+)'] = rf'backbone.{part}.bn.\1'
    for stage, blocks in enumerate(MOBILENET_V2_BLOCKS, 1):
        parts = MOBILENET_V2_PARTS if stage > 1 else MOBILENET_V2_PARTS[1:]
        for block in range(blocks):
            index += 1
            ours, theirs = rf'backbone.layer{stage}.{block}', rf'features\.{index}\.conv'
            for i, part in enumerate(parts[:-1]):
                rules[rf'{theirs}\.{i}\.0\.(\w+)'] = rf'{ours}.{part}.conv.\1'
                rules[rf'{theirs}\.{i}\.1\.(\w+)'] = rf'{ours}.{part}.bn.\1'
            rules[rf'{theirs}\.{len(parts) - 1}\.(\w+)'] = rf'{ours}.{parts[-1]}.conv.\1'
            rules[rf'{theirs}\.{len(parts)}\.(\w+)'] = rf'{ours}.{parts[-1]}.bn.\1'
    return rules | {r'classifier\.1\.(\w+)': r'head.fc.\1'}


def convert(weights: dict[str, Tensor]) -> Conversion:
    if 'layer1.0.conv1.weight' in weights:
        (backbone, name), rules, classifier = resnet(weights), RESNET_RULES, 'fc.weight'
    elif 'stem.0.weight' in weights:
        blocks = count_blocks(weights, REGNET_BLOCK)
        widths = [len(weights[REGNET_BLOCK.format(stage=stage, block=0)]) for stage in range(1, len(blocks) + 1)]
        (backbone, name), rules, classifier = regnet(blocks, widths), REGNET_RULES, 'fc.weight'
    elif 'features.18.0.weight' in weights:
        (backbone, name), rules = mobilenet_v2(weights['features.18.0.weight']), mobilenet_v2_rules()
        classifier = 'classifier.1.weight'
    else:
        raise CheckpointError("expected torchvision's ResNet, ResNeXt, RegNetX or MobileNetV2, the checkpoint's first "
                              f'key is {next(iter(weights))}')
    return convert_classifier(weights, rules, backbone, classifier=classifier), name


def main() -> None:
    run(converter_parser(__doc__).parse_args(), 'torchvision', convert)


if __name__ == '__main__':
    main()
