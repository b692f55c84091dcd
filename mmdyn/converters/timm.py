"""timm's ResNet, ResNeXt, RegNetX and MobileNetV2: their keys, renamed to those here."""
import re

from torch import Tensor

from ..checkpoints import CheckpointError, Rules
from .architectures import MOBILENET_V2_PARTS, RESNET_RULES, count_blocks, mobilenet_v2, regnet, resnet
from .conversion import Conversion, convert_classifier

REGNET_BLOCK = 's{stage}.b{block}.conv1.conv.weight'


def _regnet_part(match: re.Match) -> str:
    stage, block, number, kind, field = match.groups()
    return f'backbone.layer{stage}.{int(block) - 1}.{kind}{number}.{field}'


def _regnet_shortcut(match: re.Match) -> str:
    stage, kind, field = match.groups()
    return f'backbone.layer{stage}.0.downsample.{("conv", "bn").index(kind)}.{field}'


def _mobilenet_part(match: re.Match) -> str:
    stage, block, part, field = match.groups()
    expands = stage != '0'
    convolutions = ('conv_pw', 'conv_dw', 'conv_pwl') if expands else ('conv_dw', 'conv_pw')
    index = convolutions.index(part) if part in convolutions else int(part[-1]) - 1
    name = MOBILENET_V2_PARTS[index if expands else index + 1]
    return f'backbone.layer{int(stage) + 1}.{block}.{name}.{"conv" if part in convolutions else "bn"}.{field}'


REGNET_RULES: Rules = {
    r'stem\.conv\.(\w+)': r'backbone.conv1.\1',
    r'stem\.bn\.(\w+)': r'backbone.bn1.\1',
    r's(\d)\.b(\d+)\.conv([123])\.(conv|bn)\.(\w+)': _regnet_part,
    r's(\d)\.b1\.downsample\.(conv|bn)\.(\w+)': _regnet_shortcut,
    r'head\.fc\.(\w+)': r'head.fc.\1',
}
MOBILENET_V2_RULES: Rules = {
    r'conv_stem\.(\w+)': r'backbone.conv1.conv.\1',
    r'bn1\.(\w+)': r'backbone.conv1.bn.\1',
    r'conv_head\.(\w+)': r'backbone.conv2.conv.\1',
    r'bn2\.(\w+)': r'backbone.conv2.bn.\1',
    r'blocks\.(0)\.(\d)\.(conv_dw|conv_pw|bn[12])\.(\w+)': _mobilenet_part,
    r'blocks\.([1-6])\.(\d)\.(conv_pw|conv_dw|conv_pwl|bn[123])\.(\w+)': _mobilenet_part,
    r'classifier\.(\w+)': r'head.fc.\1',
}


def convert(weights: dict[str, Tensor]) -> Conversion:
    if 'layer1.0.conv1.weight' in weights:
        (backbone, name), rules, classifier = resnet(weights), RESNET_RULES, 'fc'
    elif 's1.b1.conv1.conv.weight' in weights:
        blocks = count_blocks(weights, REGNET_BLOCK, start=1)
        widths = [len(weights[REGNET_BLOCK.format(stage=stage, block=1)]) for stage in range(1, len(blocks) + 1)]
        (backbone, name), rules, classifier = regnet(blocks, widths), REGNET_RULES, 'head.fc'
    elif 'conv_head.weight' in weights:
        (backbone, name), rules = mobilenet_v2(weights['conv_head.weight']), MOBILENET_V2_RULES
        classifier = 'classifier'
    else:
        raise CheckpointError("expected timm's ResNet, ResNeXt, RegNetX or MobileNetV2, the checkpoint's first key is "
                              f'{next(iter(weights))}')
    return convert_classifier(weights, rules, backbone, classifier=classifier), name
