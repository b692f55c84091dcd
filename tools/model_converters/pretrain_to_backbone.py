"""Takes the backbone, gates and routers included, out of a classifier's checkpoint, for a detector to start from.

    python tools/model_converters/pretrain_to_backbone.py work_dirs/aig-r50_8xb32_in1k/epoch_100.pth \\
        checkpoints/aig-r50_in1k.pth --config configs/convnet_aig/faster-rcnn_aig-r50_fpn_1x_coco.py

The detector then has init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.'). What the detector's backbone
gets, lacks and leaves is reported; where it would be filled in part, nothing is written.
"""
import argparse
from pathlib import Path

from mmdyn.converters.pretrained_backbone import take_backbone
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a classifier, of mmpretrain or of a converter here')
    parser.add_argument('dst', metavar='DST', type=Path, help='checkpoint to write')
    parser.add_argument('--config', required=True, help='config of the detector that is to start from it')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(take_backbone(args.src, args.dst, args.config))


if __name__ == '__main__':
    main()
