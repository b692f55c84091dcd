"""Times a dynamic backbone against its static parent, side by side in one process.

The runs of both are interleaved, so that whatever else the machine does meets both alike; medians of the times and of
the ratios of each round are given. Measured are a training step (forward and backward pass), inference with the
backbone's own decisions and with random ones at given open rates, and what is saved for the backward pass. Efficiency
is the ratio of the multiply-adds over the ratio of the times: 1 where all that is saved in arithmetic is saved in time.

    python tools/analysis_tools/benchmark.py configs/convnet_aig/retinanet_aig-r50_fpn_1x_coco.py
    python tools/analysis_tools/benchmark.py "dict(type='mmdyn.AIGResNet', depth=101)" --batch 8 --size 224
"""
import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmdyn.analysis.backbone_pair import WIRINGS
from mmdyn.analysis.benchmark import CLOCKS, MEASURES, compare
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config file with a dynamic backbone, or the backbone as "dict(type=..., ...)"')
    add('--static', metavar='BACKBONE', help='static backbone to compare with, as "dict(type=..., ...)" '
        "(default: the dynamic class's parent with the same options)")
    add('--batch', type=int, nargs='+', default=[1], help='batch sizes (default: 1)')
    add('--size', type=int, nargs='+', default=[384], metavar='PIXELS',
        help='height and width, or one number for both (default: 384)')
    add('--measure', nargs='+', choices=MEASURES, default=MEASURES, help='what to measure (default: everything)')
    add('--decisions', metavar='NAME', help="decisions to force while training and for the first line of inference: "
        "open or closed (gates), complete or chain (wired stages) (default: the backbone's own)")
    add('--open-rate', type=float, nargs='*', default=[0.5, 1.0], metavar='RATE',
        help='open rates, of gates or nodes, to measure inference at, and training that skips (default: 0.5 1)')
    add('--wiring', choices=WIRINGS, default='complete',
        help='edges between the nodes that are alive at a given rate (default: %(default)s)')
    add('--channels-last', action='store_true', help='both networks in the channels-last memory format')
    add('--whole-detector', action='store_true', help="measure the config's whole detector")
    add('--training-images', action='store_true', help="with --whole-detector: a batch of the config's training images, "
        'resized to --size (default: random images and boxes)')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='values of the config to override')
    add('--runs', type=int, default=20, help='rounds of each measurement (default: %(default)s)')
    add('--warm-up', type=int, default=2, help='rounds before them; with random decisions on CPUs take 30, since oneDNN '
        'compiles a kernel for each new number of open images (default: %(default)s)')
    add('--clock', choices=CLOCKS, default='wall',
        help='what to time; on a busy machine, use --clock cpu --threads 1 (default: %(default)s)')
    add('--threads', type=int, help="CPU threads (default: torch's choice)")
    add('--device', default='cpu', help='such as cpu or cuda:0 (default: %(default)s)')
    add('--amp', choices=('float16', 'bfloat16'), help='mixed precision in this dtype (default: none)')
    add('--json', dest='json_file', type=Path, metavar='FILE', help='file to write the result to, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(compare(**vars(args)))


if __name__ == '__main__':
    main()
