"""The authors' ConvNet-AIG (andreasveit/convnet-aig): its keys, gates included, renamed to those here."""
import re
from typing import Any

from torch import Tensor

from ..backbones import AIGResNet, AIGResNetCIFAR
from ..backbones.aig_backbone import AIGBackbone
from ..checkpoints import CheckpointError
from ..checkpoints.key_map import BATCH_COUNTS
from .architectures import count_blocks, resnet_depth
from .cifar_resnet import cifar_depth
from .conversion import Conversion, convert_classifier

RULES = {
    r'(conv1|bn1|layer\d\.\d+\.(?:conv|bn)\d)\.(\w+)': r'backbone.\1.\2',
    r'(layer\d\.\d+)\.shortcut\.([01]\.\w+)': r'backbone.\1.downsample.\2',
    r'(layer\d\.\d+)\.(fc[12])\.(\w+)': r'backbone.\1.gate.\2.\3',
    r'(layer\d\.\d+)\.fc1bn\.(\w+)': r'backbone.\1.gate.norm.\2',
    r'linear\.(\w+)': r'head.fc.\1',
}
GATE_KEY = r'(layer\d\.\d+)\.(?:fc1|fc1bn|fc2)\.\w+'
# What their gates do not have: the running quantile of calibrated ones.
OPTIONAL = rf'{BATCH_COUNTS}|.*\.gate\.(quantile|spread|calibration_steps)'


def matching_backbone(weights: dict[str, Tensor], always_run: str | None) -> tuple[AIGBackbone, str]:
    """The AIG backbone of these depths, and how a config names it."""
    blocks = count_blocks(weights, 'layer{stage}.{block}.conv1.weight')
    options: dict[str, Any] = dict(
        gate=dict(norm='BN'), target_rates=dict(preset='paper', t=0.5) if always_run else None)
    if len(blocks) == 3:
        if always_run:
            raise CheckpointError('--always-run paper is for their ImageNet networks, the checkpoint is of a CIFAR one')
        depth = cifar_depth(blocks)
        return AIGResNetCIFAR(depth, shortcut='B', **options), (
            f"type='mmdyn.AIGResNetCIFAR', depth={depth}, shortcut='B', gate=dict(norm='BN')")
    depth = resnet_depth(weights, blocks)
    return AIGResNet(depth, **options), (
        f"type='mmdyn.AIGResNet', depth={depth}, gate=dict(norm='BN')"
        + (", target_rates=dict(preset='paper', t=...)" if always_run else ''))


def convert(weights: dict[str, Tensor], always_run: str | None = None) -> Conversion:
    backbone, name = matching_backbone(weights, always_run)
    gated = set(backbone.gates())
    taken = {}
    for key, value in weights.items():
        gate = re.fullmatch(GATE_KEY, key)
        if gate and always_run and gate[1] not in gated:
            continue
        # Their gates' layers are 1x1 convolutions over a map of one cell.
        taken[key] = value.flatten(1) if gate and value.dim() == 4 and value.shape[2:] == (1, 1) else value
    converted = convert_classifier(taken, RULES, backbone, classifier='linear', optional=OPTIONAL)
    return converted, name
