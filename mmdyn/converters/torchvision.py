"""torchvision's ResNet, ResNeXt, RegNetX and MobileNetV2: their keys, renamed to those here."""
import re

from torch import Tensor

from ..checkpoints import CheckpointError, Rules
from .architectures import MOBILENET_V2_BLOCKS, MOBILENET_V2_PARTS, RESNET_RULES, count_blocks, mobilenet_v2, regnet, resnet
from .conversion import Conversion, convert_classifier

REGNET_BLOCK = 'trunk_output.block{stage}.block{stage}-{block}.f.a.0.weight'


def _regnet_part(match: re.Match) -> str:
    stage, block, part, is_norm, field = match.groups()
    number = 'abc'.index(part) + 1
    return f'backbone.layer{stage}.{block}.{("conv", "bn")[int(is_norm)]}{number}.{field}'


REGNET_RULES: Rules = {
    r'stem\.0\.(\w+)': r'backbone.conv1.\1',
    r'stem\.1\.(\w+)': r'backbone.bn1.\1',
    r'trunk_output\.block(\d)\.block\1-(\d+)\.f\.([abc])\.([01])\.(\w+)': _regnet_part,
    r'trunk_output\.block(\d)\.block\1-(\d+)\.proj\.([01]\.\w+)': r'backbone.layer\1.\2.downsample.\3',
    r'fc\.(\w+)': r'head.fc.\1',
}


def mobilenet_v2_rules(*, flat: bool) -> Rules:
    """torchvision numbers the blocks through; here each stage counts anew.

    Args:
        flat: A block's convolutions, norms and activations are numbered through as well (``conv.3``), as in
            implementations older than torchvision's, which puts the three of a kind together (``conv.1.0``).
    """
    rules: dict[str, str] = {}
    index = 0
    for prefix, part in (('0', 'conv1'), (str(1 + sum(MOBILENET_V2_BLOCKS)), 'conv2')):
        rules[rf'features\.{prefix}\.0\.(\w+)'] = rf'backbone.{part}.conv.\1'
        rules[rf'features\.{prefix}\.1\.(\w+)'] = rf'backbone.{part}.bn.\1'
    for stage, blocks in enumerate(MOBILENET_V2_BLOCKS, 1):
        parts = MOBILENET_V2_PARTS if stage > 1 else MOBILENET_V2_PARTS[1:]
        for block in range(blocks):
            index += 1
            for i, part in enumerate(parts):
                last = i == len(parts) - 1  # without an activation
                conv, norm = (3 * i, 3 * i + 1) if flat else (i, i + 1) if last else (rf'{i}\.0', rf'{i}\.1')
                for number, kind in ((conv, 'conv'), (norm, 'bn')):
                    rules[rf'features\.{index}\.conv\.{number}\.(\w+)'] = rf'backbone.layer{stage}.{block}.{part}.{kind}.\1'
    return rules | {r'classifier\.1\.(\w+)': r'head.fc.\1'}


def convert(weights: dict[str, Tensor]) -> Conversion:
    if 'layer1.0.conv1.weight' in weights:
        (backbone, name), rules, classifier = resnet(weights), RESNET_RULES, 'fc'
    elif 'stem.0.weight' in weights:
        blocks = count_blocks(weights, REGNET_BLOCK)
        widths = [len(weights[REGNET_BLOCK.format(stage=stage, block=0)]) for stage in range(1, len(blocks) + 1)]
        (backbone, name), rules, classifier = regnet(blocks, widths), REGNET_RULES, 'fc'
    elif 'features.18.0.weight' in weights:
        backbone, name = mobilenet_v2(weights['features.18.0.weight'])
        rules = mobilenet_v2_rules(flat='features.1.conv.0.weight' in weights)
        classifier = 'classifier.1'
    else:
        raise CheckpointError("expected torchvision's ResNet, ResNeXt, RegNetX or MobileNetV2, the checkpoint's first "
                              f'key is {next(iter(weights))}')
    return convert_classifier(weights, rules, backbone, classifier=classifier), name
