"""Draws how the open rate of every block went during a training.

    python tools/analysis_tools/open_rates.py work_dirs/faster-rcnn_aig-r50_fpn_1x_coco

Takes a run's folder, its .log or its vis_data/scalars.json; of several runs in a folder, the last. Rates while training
are sampled, over the global batch; those of evaluations (mmdyn.ComputeMetric) are deterministic, and are drawn too.
"""
import argparse
from pathlib import Path

from mmdyn.analysis.open_rates import draw_open_rates
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, help="a run's folder, .log or scalars.json")
    parser.add_argument('--out', type=Path, metavar='FILE.png', help='default: open_rates.png beside scalars.json')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(draw_open_rates(args.run, args.out))


if __name__ == '__main__':
    main()
