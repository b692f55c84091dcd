"""Converts a checkpoint of the authors' ConvNet-AIG (andreasveit/convnet-aig) into one for mmdyn's AIG backbones.

    python tools/model_converters/convnet_aig_to_mmdyn.py model_best.pth.tar aig-r50.pth --always-run paper

Their code has a gate in every block, those that always run in the paper included: without --always-run all gates are
kept, as target_rates=None or a number wants it; with it they are left out, as target_rates=dict(preset='paper', t=...)
has none. Their gates use batch normalisation: gate=dict(norm='BN').
"""
import argparse
from functools import partial

from mmdyn.converters.conversion import convert_file, converter_parser
from mmdyn.converters.convnet_aig import convert
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = converter_parser(__doc__)
    parser.add_argument('--always-run', choices=['paper'], metavar='paper',
                        help="leave out the gates of the blocks that always run in the paper's list")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(convert_file(args.src, args.dst, 'andreasveit/convnet-aig', partial(convert, always_run=args.always_run)))


if __name__ == '__main__':
    main()
