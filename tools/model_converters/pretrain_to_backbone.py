"""Takes the backbone, gates and routers included, out of a classifier's checkpoint, for a detector to start from.

    python tools/model_converters/pretrain_to_backbone.py work_dirs/aig-r50_8xb32_in1k/epoch_100.pth \\
        checkpoints/aig-r50_in1k.pth --config configs/convnet_aig/faster-rcnn_aig-r50_fpn_1x_coco.py

The detector then has init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.'). What the detector's backbone
gets, lacks and leaves is reported; where it would be filled in part, nothing is written.
"""
import argparse
from collections import Counter
from pathlib import Path

import torch
from mmdyn.checkpoints import CheckpointError, KeyMatch, read_checkpoint, state_dict_of
from mmdyn.engine import check_file, exit_on_bad_input
from mmdyn.converters.initial_weights import is_dynamic, match_backbone
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

PREFIX = 'backbone.'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a classifier, of mmpretrain or of a converter here')
    parser.add_argument('dst', metavar='DST', type=Path, help='checkpoint to write')
    parser.add_argument('--config', required=True, help='config of the detector that is to start from it')
    return parser.parse_args()


def build_backbone(path: str) -> nn.Module:
    """The backbone of a config, without what it would be initialised from."""
    check_file(path, 'a config file')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
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


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        checkpoint = read_checkpoint(args.src)
        weights = state_dict_of(checkpoint, args.src)
        given = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}
        if not given:
            raise CheckpointError(f'expected a classifier, with keys like {PREFIX}conv1.weight, found none in '
                                  f'{args.src}; its first key is {next(iter(weights))}')
        match = match_backbone(build_backbone(args.config), given, args.src)
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict={PREFIX + key: given[key] for key in match.matched},
                    meta=dict(origin=Path(args.src).name)), args.dst)
    print(report(match, [key for key in weights if not key.startswith(PREFIX)]))
    print(f"init_cfg=dict(type='Pretrained', checkpoint='{args.dst}', prefix='{PREFIX}')")


if __name__ == '__main__':
    main()
