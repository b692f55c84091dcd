"""What the converters share: SRC, renamed by a key map into what a model wants, to DST."""
import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import __version__
from ..checkpoints import CheckpointError, Rules, convert_keys, read_state_dict
from .architectures import feature_channels

# A state dict of ours, and how a config names its backbone.
Conversion = tuple[dict[str, Tensor], str]


def converter_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read; nothing that it may carry is run')
    parser.add_argument('dst', metavar='DST', type=Path, help='checkpoint to write')
    return parser


def convert_file(src: str, dst: Path, origin: str, convert: Callable[[dict[str, Tensor]], Conversion]) -> str:
    """Reads SRC, converts it and writes DST, which mmengine and mmdyn load.

    Args:
        src: Checkpoint to read.
        dst: Checkpoint to write.
        origin: The other project, written into DST.
        convert: Its weights -> the state dict of an ImageClassifier, and the backbone that it is for.

    Returns:
        What was converted, to print.

    Raises:
        CheckpointError: Why SRC is refused; nothing is written.
    """
    weights, backbone = convert(read_state_dict(src))
    dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=weights, meta=dict(backbone=backbone, origin=origin, mmdyn=__version__)), dst)
    numbers = sum(value.numel() for value in weights.values())
    lines = [f'{len(weights)} weights ({numbers / 1e6:.2f} M numbers) converted, none missing, none left over: {dst}',
             f'backbone=dict({backbone})']
    if not any(key.startswith('head.') for key in weights):
        lines.append("no classifier in it: a backbone's weights, for "
                     f"init_cfg=dict(type='Pretrained', checkpoint='{dst}', prefix='backbone.')")
    return '\n'.join(lines)


def convert_classifier(weights: Mapping[str, Tensor], rules: Rules, backbone: nn.Module, *, classifier: str,
                       **options) -> dict[str, Tensor]:
    """The state dict of mmpretrain's ImageClassifier with this backbone and a LinearClsHead.

    Without the other project's classifier it is that of the backbone alone.

    Args:
        weights: The other project's.
        rules: Its keys -> ours; see :func:`mmdyn.checkpoints.convert_keys`.
        backbone: Gives the keys and shapes that are wanted.
        classifier: The other project's last linear layer; its weight is (classes, channels).
        **options: Of ``convert_keys``.

    Raises:
        CheckpointError: If anything is foreign, missing or of another shape, half a classifier included.
    """
    wanted = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    if any(key.startswith(f'{classifier}.') for key in weights):
        classes = _number_of_classes(weights, f'{classifier}.weight')
        wanted['head.fc.weight'] = torch.empty(classes, feature_channels(backbone))
        wanted['head.fc.bias'] = torch.empty(classes)
    return convert_keys(weights, rules, wanted, **options)


def _number_of_classes(weights: Mapping[str, Tensor], key: str) -> int:
    found = f'one of shape {tuple(weights[key].shape)}' if key in weights else 'none'
    if key not in weights or weights[key].dim() != 2:
        raise CheckpointError(f'expected a key {key} of shape (classes, channels), the checkpoint has {found}')
    return len(weights[key])
