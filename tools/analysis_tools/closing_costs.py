"""What closing costs: by how much a model's loss rises when one gate closes, and whether the gates know.

    python tools/analysis_tools/closing_costs.py CONFIG CHECKPOINT --images 200

For each gate and training image, with all other gates open: the change of the loss, what the derivative of the loss
with respect to the decision says of it where the gate is open, where it is closed, and at both ends together (what the
estimators 'straight_through' and 'reinmax' learn from), and what the gate says itself. A gate that is worth its compute
ranks images as the change of the loss does. The last column, "fitted", tells what could be expected: a regression from what
the gate reads, fitted to the changes of other images. The checkpoint may be that of the static network: then gates say
nothing.
The last line tells what there is to win at a budget: by how much the loss would rise if the same gates closed for all
images, if these gates decided, and if each image's own changes were known.
"""
import argparse

from mmdyn.analysis.closing_costs import closing_costs
from mmdyn.analysis.trained_model import config_parser
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--images', type=int, default=200, metavar='N',
                        help='training images, spread evenly over the set (default: %(default)s)')
    parser.add_argument('--budget', type=float, default=0.75, metavar='SHARE',
                        help='of the dense cost, for the last line (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for text in closing_costs(**vars(args)):
            print(text, flush=True)


if __name__ == '__main__':
    main()
