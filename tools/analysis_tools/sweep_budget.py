"""One checkpoint, many budgets: evaluates it at several open probabilities (AIG) or thresholds (DG).

Draws accuracy over compute, and finds the value for a wanted budget:

    python tools/analysis_tools/sweep_budget.py CONFIG CHECKPOINT --budget 0.7

Every point is an evaluation of the config's validation set by the config's own evaluator; the cost is that of
mmdyn.ComputeMetric. Points go to a JSON file as they are made, and those in it are not made again.
"""
import argparse
from pathlib import Path

from mmdyn.analysis.budget_figure import reference
from mmdyn.analysis.budget_sweep import sweep_budget
from mmdyn.analysis.trained_model import config_parser
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--values', type=float, nargs='+', metavar='VALUE',
                        help='open probabilities in [0, 1], or thresholds in [0, edge_scale) (default: about ten)')
    parser.add_argument('--budget', type=float, metavar='SHARE',
                        help='wanted cost as a share of the dense cost, in (0, 1]')
    parser.add_argument('--accuracy', metavar='NAME', help="the metric to draw (default: the evaluator's main one)")
    parser.add_argument('--static', type=reference, nargs='+', default=[], metavar='NAME=GMACS,ACCURACY',
                        help='other networks to draw, joined by a line: the static ones')
    parser.add_argument('--others', type=reference, nargs='+', default=[], metavar='NAME=GMACS,ACCURACY',
                        help='other networks to draw, each by itself')
    parser.add_argument('--out', type=Path, metavar='FOLDER',
                        help='for sweep.json and sweep.png (default: sweep beside the checkpoint)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for text in sweep_budget(**vars(args)):
            print(text, flush=True)


if __name__ == '__main__':
    main()
