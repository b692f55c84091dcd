"""Tells how robust a dynamic model is beside a static one, and how much its routes change.

A classifier of MMPretrain under FGSM and PGD, each with and without JPEG recompression:

    python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --static CONFIG CHECKPOINT --epsilons 1 2 4 8

A detector of MMDetection on corrupted images:

    python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --corruptions gaussian_noise fog --severities 1 3 5

Attacks are white-box: each model is attacked with its own gradients. Prints a table, and writes it as robustness.md and
as a figure, robustness.png.
"""
import argparse
from pathlib import Path

import torch
from mmdyn.analysis.adversarial import ATTACKS
from mmdyn.analysis.corrupted import DEFAULT_CORRUPTIONS
from mmdyn.analysis.robustness import report_robustness
from mmdyn.analysis.trained_model import config_parser
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--static', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='a static model to set beside it')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER',
                        help='default: robustness beside the checkpoint')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='default: %(default)s')
    attack = parser.add_argument_group('classifiers')
    attack.add_argument('--attacks', nargs='+', choices=ATTACKS, default=list(ATTACKS))
    attack.add_argument('--epsilons', nargs='+', type=float, default=[1, 2, 4, 8], metavar='E',
                        help='largest change of a pixel, of 255 (default: 1 2 4 8)')
    attack.add_argument('--num-images', type=int, metavar='N', help='only N images, spread evenly over the validation '
                        'set (default: all)')
    attack.add_argument('--steps', type=int, default=10, help='of PGD (default: %(default)s)')
    attack.add_argument('--jpeg', type=int, default=75, metavar='QUALITY', help='0: none (default: %(default)s)')
    corruption = parser.add_argument_group('detectors')
    corruption.add_argument('--corruptions', nargs='+', default=list(DEFAULT_CORRUPTIONS), metavar='NAME',
                            help='of the package imagecorruptions (default: %(default)s)')
    corruption.add_argument('--severities', nargs='+', type=int, default=[1, 3, 5], metavar='S', help='default: 1 3 5')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for text in report_robustness(**vars(args)):
            print(text, flush=True)


if __name__ == '__main__':
    main()
