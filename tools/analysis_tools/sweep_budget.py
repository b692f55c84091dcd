"""One checkpoint, many budgets: its accuracy at shares of its compute, beside controls that decide nothing.

    python tools/analysis_tools/sweep_budget.py CONFIG CHECKPOINT --budgets 0.5 0.6 0.7 0.8 0.9 1.0 --controls

A budget is a share of the backbone's dense cost. It is met by one number for the whole network: the probability above
which gates open (AIG), or the weight above which edges do (DG). That number is found on training images, through the
pipeline of evaluation; then the validation set is evaluated by the config's own evaluator. --controls sets beside the
network's own decisions, at the same compute:

  random   the same routes, dealt to the images at random
  fixed    what is best without decisions: gates closed for every image, one after the other, so that the loss on the
           training images stays lowest; of wired stages, the mean wiring of the training images

Everything found goes to a JSON file as it is made; what is in it is not made again.
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
    parser.add_argument('--budgets', type=float, nargs='+', metavar='SHARE',
                        help='shares of the dense cost, in (0, 1] (default: 0.5 0.6 0.7 0.8 0.9 1, unless --values)')
    parser.add_argument('--values', type=float, nargs='+', metavar='VALUE',
                        help='open probabilities in [0, 1], or thresholds in [0, edge_scale), to evaluate as they are')
    parser.add_argument('--controls', action='store_true',
                        help='evaluate random and fixed decisions at the same compute')
    parser.add_argument('--train-images', type=int, default=200, metavar='N',
                        help='training images to choose by, spread evenly over the set (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the random decisions (default: %(default)s)')
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
