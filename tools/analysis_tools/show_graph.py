"""Draws what images ran: each picture with its detections beside the blocks, or the wiring, of its inference graph.

    python tools/analysis_tools/show_graph.py CONFIG CHECKPOINT street.jpg dog.jpg

Writes a PNG for each image. Blue blocks ran, hatched ones were skipped; of a wired stage, arcs are the open edges,
darker the more they weigh, and pale nodes are dead. Needs no display. To see such pictures while training, add
dict(type='mmdyn.InferenceGraphHook') to custom_hooks.
"""
import argparse
from pathlib import Path

import torch
from mmdyn.analysis.image_graphs import draw_graphs
from mmdyn.analysis.trained_model import config_parser
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER',
                        help='where to write (default: inference_graphs beside the checkpoint)')
    parser.add_argument('--score-threshold', type=float, default=0.3, metavar='SCORE',
                        help='detections below it are not drawn (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for text in draw_graphs(**vars(args)):
            print(text)


if __name__ == '__main__':
    main()
