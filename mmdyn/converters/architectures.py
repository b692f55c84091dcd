"""Finds MMDetection's backbone for the weights of another project: its depth, widths and groups are read off them."""
from collections.abc import Iterable, Mapping
from itertools import zip_longest

import torch
from mmdet.models.backbones import MobileNetV2, RegNet, ResNet, ResNeXt
from torch import Tensor, nn

from ..backbones import DGRegNet
from ..checkpoints import CheckpointError, Rules

Weights = Mapping[str, Tensor]

# torchvision, timm and MMDetection name the parts of ResNets and ResNeXts alike.
RESNET_RULES: Rules = {
    r'((?:conv|bn)1\.\w+)': r'backbone.\1',
    r'(layer\d\.\d+\.(?:(?:conv|bn)\d|downsample\.[01])\.\w+)': r'backbone.\1',
    r'fc\.(\w+)': r'head.fc.\1',
}
# Blocks of MobileNetV2's seven stages.
MOBILENET_V2_BLOCKS = [blocks for _, _, blocks, _ in MobileNetV2.arch_settings]
# Its parts, in the order they run; the first stage has no expansion.
MOBILENET_V2_PARTS = ('expand_conv', 'depthwise_conv', 'linear_conv')


def count_blocks(weights: Weights, first_key: str, *, start: int = 0) -> list[int]:
    """How many blocks each stage has.

    Args:
        weights: Of the checkpoint.
        first_key: A key that every block has, with {stage} (from 1 on) and {block} in it.
        start: Number of the first block.

    Raises:
        CheckpointError: If there is not even a first stage.
    """
    blocks: list[int] = []
    while first_key.format(stage=len(blocks) + 1, block=start) in weights:
        count = 1
        while first_key.format(stage=len(blocks) + 1, block=start + count) in weights:
            count += 1
        blocks.append(count)
    if not blocks:
        raise CheckpointError(f'expected a key {first_key.format(stage=1, block=start)}, the checkpoint has none')
    return blocks


def resnet_depth(weights: Weights, blocks: list[int]) -> int:
    """The depth of the ResNet with so many blocks.

    Raises:
        CheckpointError: If MMDetection has none such.
    """
    convolutions = 3 if 'layer1.0.conv3.weight' in weights else 2
    depth = 2 + convolutions * sum(blocks)
    if depth not in ResNet.arch_settings or list(ResNet.arch_settings[depth][1]) != blocks:
        raise CheckpointError(f'expected a ResNet of depth {list(ResNet.arch_settings)}, the checkpoint has stages of '
                              f'{blocks} blocks with {convolutions} convolutions each')
    return depth


def resnet(weights: Weights) -> tuple[ResNet, str]:
    """The ResNet or ResNeXt that has these weights, and how a config names it."""
    depth = resnet_depth(weights, count_blocks(weights, 'layer{stage}.{block}.conv1.weight'))
    width, in_group = weights.get('layer1.0.conv2.weight', torch.empty(1, 1)).shape[:2]
    if width == in_group:
        return ResNet(depth), f"type='mmdyn.AIGResNet' or 'mmdyn.DGResNet', depth={depth}"
    if depth not in ResNeXt.arch_settings:
        raise CheckpointError(f'layer1.0.conv2.weight is of another shape: a ResNet of depth {depth} has no groups, and '
                              f'a ResNeXt is of depth {list(ResNeXt.arch_settings)}')
    options = dict(depth=depth, groups=width // in_group, base_width=in_group)
    return ResNeXt(**options), "type='mmdyn.AIGResNeXt' or 'mmdyn.DGResNeXt', " + _arguments(options)


def regnet(blocks: list[int], widths: Iterable[int]) -> tuple[RegNet, str]:
    """The RegNetX with so many blocks of these widths, and how a config names it.

    Raises:
        CheckpointError: If none of the presets is such; it names the nearest and what is different.
    """
    found = blocks, list(widths)
    presets = {}
    for arch in DGRegNet.arch_settings:
        with torch.device('meta'):
            candidate = RegNet(DGRegNet.arch_settings[arch])
        presets[arch] = candidate.stage_blocks[:candidate.num_stages], candidate.stage_widths
        if presets[arch] == found:
            return RegNet(DGRegNet.arch_settings[arch]), f"type='mmdyn.AIGRegNet' or 'mmdyn.DGRegNet', arch='{arch}'"
    nearest = min(presets, key=lambda arch: _distance(presets[arch], found))
    raise CheckpointError(
        f"the checkpoint is of a RegNet with stages of {found[0]} blocks and {found[1]} channels; MMDetection's nearest, "
        f'{nearest}, has {presets[nearest][0]} blocks and {presets[nearest][1]} channels, and there are only '
        f'{", ".join(presets)}')


def _distance(one: tuple[list[int], list[int]], other: tuple[list[int], list[int]]) -> tuple[int, float]:
    """How far two networks are apart: first in blocks, then in channels."""
    blocks, widths = (list(zip_longest(a, b, fillvalue=0)) for a, b in zip(one, other))
    return sum(abs(a - b) for a, b in blocks), sum(abs(a - b) for a, b in widths)


def mobilenet_v2(last_convolution: Tensor) -> tuple[MobileNetV2, str]:
    """The MobileNetV2 whose last 1x1 convolution, which reads 320 channels times its widen factor, has these weights."""
    factor = last_convolution.shape[1] / 320
    return (MobileNetV2(widen_factor=factor, out_indices=(7, )),
            f"type='mmdyn.AIGMobileNetV2' or 'mmdyn.DGMobileNetV2', widen_factor={factor:g}, out_indices=(7, )")


def _arguments(options: Mapping[str, object]) -> str:
    return ', '.join(f'{name}={value}' for name, value in options.items())


def feature_channels(backbone: nn.Module) -> int:
    """Channels of the last feature map."""
    return backbone.out_channel if isinstance(backbone, MobileNetV2) else backbone.feat_dim
