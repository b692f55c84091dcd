"""Converts a checkpoint of the authors' ConvNet-AIG (andreasveit/convnet-aig) into one for mmdyn's AIG backbones.

    python tools/model_converters/convnet_aig_to_mmdyn.py model_best.pth.tar aig-r50.pth --always-run paper

Their code has a gate in every block, those that always run in the paper included: without --always-run all gates are
kept, as target_rates=None or a number wants it; with it they are left out, as target_rates=dict(preset='paper', t=...)
has none. Their gates use batch normalisation: gate=dict(norm='BN').
"""
import re

from architectures import count_blocks, resnet_depth
from cifar_resnet_to_mmdyn import cifar_depth
from conversion import Conversion, convert_classifier, converter_parser, run
from mmdyn.backbones import AIGResNet, AIGResNetCIFAR
from mmdyn.backbones.aig_backbone import AIGBackbone
from mmdyn.checkpoints import CheckpointError
from mmdyn.checkpoints.key_map import BATCH_COUNTS
from torch import Tensor

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
    options = dict(gate=dict(norm='BN'), target_rates=dict(preset='paper', t=0.5) if always_run else None)
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
    converted = convert_classifier(taken, RULES, backbone, classifier='linear.weight', optional=OPTIONAL)
    return converted, name


def main() -> None:
    parser = converter_parser(__doc__)
    parser.add_argument('--always-run', choices=['paper'], metavar='paper',
                        help="leave out the gates of the blocks that always run in the paper's list")
    args = parser.parse_args()
    run(args, 'andreasveit/convnet-aig', lambda weights: convert(weights, args.always_run))


if __name__ == '__main__':
    main()
