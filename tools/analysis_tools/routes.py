"""Reports the routes that images took: which blocks ran for which classes, what that cost, and what it tells.

First evaluate with dict(type='mmdyn.ComputeMetric', dump='decisions.json') among the evaluators; then

    python tools/analysis_tools/routes.py decisions.json
    python tools/analysis_tools/routes.py decisions.json --groups animals=bird,cat,dog vehicles=car,truck

Writes report.html, which holds all figures and opens without a network, and the figures as PNG files beside it.
--groups tests by permutation whether two groups of classes take different routes.
"""
import argparse
from pathlib import Path

from mmdyn.analysis.route_report import report_routes
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dump', help='JSON file that ComputeMetric or get_macs.py dumped')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER', help="default: <the dump's name>_routes beside it")
    parser.add_argument('--groups', nargs=2, metavar='NAME=CLASS,CLASS', help='two groups of classes to compare')
    parser.add_argument('--permutations', type=int, default=10_000, metavar='N', help='default: %(default)s')
    parser.add_argument('--clusters', type=int, default=6, metavar='N', help='of routes; default: %(default)s')
    parser.add_argument('--images', type=int, default=20, metavar='N',
                        help='to show, of the least and of the most expensive ones each; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(report_routes(**vars(args)))


if __name__ == '__main__':
    main()
