"""What the converters in this folder share: SRC, renamed by a key map into what a model wants, to DST."""
import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from architectures import feature_channels
from mmdyn import __version__
from mmdyn.checkpoints import CheckpointError, Rules, convert_keys, read_state_dict
from mmdyn.engine import exit_on_bad_input
from torch import Tensor, nn

# A state dict of ours, and how a config names its backbone.
Conversion = tuple[dict[str, Tensor], str]


def converter_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read; nothing that it may carry is run')
    parser.add_argument('dst', metavar='DST', type=Path, help='checkpoint to write')
    return parser


def run(args: argparse.Namespace, origin: str, convert: Callable[[dict[str, Tensor]], Conversion]) -> None:
    """Reads SRC, converts it and writes DST, which mmengine and mmdyn load; says what it is, or why it is refused.

    Args:
        args: Of :func:`converter_parser`.
        origin: The other project, written into DST.
        convert: Its weights -> the state dict of an ImageClassifier, and the backbone that it is for.
    """
    with exit_on_bad_input():
        weights, backbone = convert(read_state_dict(args.src))
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=weights, meta=dict(backbone=backbone, origin=origin, mmdyn=__version__)), args.dst)
    numbers = sum(value.numel() for value in weights.values())
    print(f'{len(weights)} weights ({numbers / 1e6:.2f} M numbers) converted, none missing, none left over: {args.dst}\n'
          f'backbone=dict({backbone})')


def convert_classifier(weights: Mapping[str, Tensor], rules: Rules, backbone: nn.Module, *, classifier: str,
                       **options) -> dict[str, Tensor]:
    """The state dict of mmpretrain's ImageClassifier with this backbone and a LinearClsHead.

    Args:
        weights: The other project's.
        rules: Its keys -> ours; see :func:`mmdyn.checkpoints.convert_keys`.
        backbone: Gives the keys and shapes that are wanted.
        classifier: Key of the weight of the other project's last linear layer, (classes, channels).
        **options: Of ``convert_keys``.

    Raises:
        CheckpointError: If anything is foreign, missing or of another shape.
    """
    if classifier not in weights or weights[classifier].dim() != 2:
        raise CheckpointError(f'expected a key {classifier} of shape (classes, channels), the checkpoint has none')
    wanted = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    classes = len(weights[classifier])
    wanted['head.fc.weight'] = torch.empty(classes, feature_channels(backbone))
    wanted['head.fc.bias'] = torch.empty(classes)
    return convert_keys(weights, rules, wanted, **options)
