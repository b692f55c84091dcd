"""Tells what a dynamic backbone costs: parameters, multiply-adds (MACs) of each stage, and those of real images.

    python tools/analysis_tools/get_macs.py CONFIG                       # as it starts, before any training
    python tools/analysis_tools/get_macs.py CONFIG CHECKPOINT --num-images 500

Counted are the convolutions and linear layers of the backbone, gates and routers included, half of what PyTorch's
FlopCounterMode sees. Each image counts at the size that it would be padded to alone. The histogram is written as a PNG.
"""
import argparse
from pathlib import Path

from mmdyn.analysis.macs import report_costs
from mmdyn.analysis.trained_model import config_parser
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?',
                        help='checkpoint file; without it, decisions are those of fresh weights')
    parser.add_argument('--shape', type=int, nargs='+', metavar='PIXELS',
                        help="height and width, or one number for both (default: the evaluation pipeline's)")
    parser.add_argument('--num-images', type=int, default=100, metavar='N',
                        help="images to run, spread evenly over the config's validation set; 0 for none "
                             '(default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FILE.png',
                        help="histogram of the images' cost (default: macs.png beside the checkpoint)")
    parser.add_argument('--dump', metavar='FILE.json', help='decisions and cost of each image, for the analysis tools')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for text in report_costs(**vars(args)):
            print(text)


if __name__ == '__main__':
    main()
