"""What the converters in this folder share: SRC, renamed by a key map into what a model wants, to DST."""
import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from mmdyn import __version__
from mmdyn.checkpoints import CheckpointError, convert_keys
from torch import Tensor, nn


def converter_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read; nothing that it may carry is run')
    parser.add_argument('dst', metavar='DST', type=Path, help='checkpoint to write')
    return parser


def count_blocks(weights: Mapping[str, Tensor], first_key: str) -> list[int]:
    """How many blocks each stage has.

    Args:
        weights: Of the checkpoint.
        first_key: A key that every block has, with {stage} (from 1 on) and {block} (from 0 on) in it.

    Raises:
        CheckpointError: If there is not even a first stage.
    """
    blocks: list[int] = []
    while first_key.format(stage=len(blocks) + 1, block=0) in weights:
        count = 1
        while first_key.format(stage=len(blocks) + 1, block=count) in weights:
            count += 1
        blocks.append(count)
    if not blocks:
        raise CheckpointError(f'expected a key {first_key.format(stage=1, block=0)}, the checkpoint has none')
    return blocks


def convert_classifier(weights: Mapping[str, Tensor], rules: Mapping[str, str], backbone: nn.Module, *,
                       classifier: str, **options) -> dict[str, Tensor]:
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
    wanted['head.fc.weight'] = torch.empty(len(weights[classifier]), backbone.feat_dim)
    wanted['head.fc.bias'] = torch.empty(len(weights[classifier]))
    return convert_keys(weights, rules, wanted, **options)


def write_classifier(weights: dict[str, Tensor], path: Path, architecture: str, origin: str) -> None:
    """Writes a checkpoint that mmengine loads, and says what it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=weights, meta=dict(architecture=architecture, origin=origin, mmdyn=__version__)), path)
    numbers = sum(value.numel() for value in weights.values())
    print(f'{architecture}: {len(weights)} weights ({numbers / 1e6:.2f} M numbers) converted, none missing, none left '
          f'over: {path}')
