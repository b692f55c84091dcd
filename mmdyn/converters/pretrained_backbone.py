"""Takes the backbone, gates and routers included, out of a classifier's checkpoint, for a detector to start from."""
from collections import Counter
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..checkpoints import CheckpointError, KeyMatch, read_state_dict
from ..engine import blame, check_config, read_config_file
from .initial_weights import is_dynamic, match_backbone

PREFIX = 'backbone.'


def build_backbone(path: str) -> nn.Module:
    """The backbone of a config, without what it would be initialised from."""
    cfg = read_config_file(path)
    check_config(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    with blame(f'the backbone of {path} cannot be built'):
        return MODELS.build(dict(cfg.model.backbone, init_cfg=None))


def report(match: KeyMatch, others: list[str]) -> str:
    """What the detector's backbone gets, what it lacks and what stays behind."""
    lines = [f'loaded:    {len(match.matched)} weights of the backbone, '
             f'{sum(map(is_dynamic, match.matched))} of them in gates or routers',
             f'missing:   {len(match.missing)}']
    if match.missing:
        lines[-1] += f', which start as they are built: {", ".join(match.missing[:3])} ...'
    parts = Counter(key.partition('.')[0] for key in [*others, *(f'{PREFIX}{key}' for key in match.left_over)])
    lines.append(f'left over: {sum(parts.values())}'
                 + ''.join(f', {count} in {part}' for part, count in parts.items()))
    return '\n'.join(lines)


def take_backbone(src: str, dst: Path, config: str) -> str:
    """Writes what of a classifier's checkpoint the backbone of a detector gets.

    Args:
        src: Checkpoint of a classifier.
        dst: Checkpoint to write.
        config: File of the detector's config.

    Returns:
        What that backbone gets, lacks and leaves, and how its config names the checkpoint.

    Raises:
        InputError, CheckpointError: If a file is absent, or the backbone would be filled in part; nothing is written.
    """
    weights = read_state_dict(src)
    given = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}
    if not given:
        raise CheckpointError(f'expected a classifier, with keys like {PREFIX}conv1.weight, found none in {src}; its '
                              f'first key is {next(iter(weights))}')
    match = match_backbone(build_backbone(config), given, src)
    dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict={PREFIX + key: given[key] for key in match.matched}, meta=dict(origin=Path(src).name)), dst)
    return (f'{report(match, [key for key in weights if not key.startswith(PREFIX)])}\n'
            f"init_cfg=dict(type='Pretrained', checkpoint='{dst}', prefix='{PREFIX}')")
