"""Training throughput of two processes against one, for a dynamic backbone and its static parent, side by side.

Two processes of half the threads, each with half the batch, add their gradients (DistributedDataParallel, gloo); one
process with all threads takes the whole batch. The rounds of all four are interleaved, so that whatever else the machine
does meets them alike. What splitting costs is the ratio of the two throughputs; the dynamic model is to lose no more than
the static one.

    python tools/analysis_tools/benchmark_processes.py "dict(type='mmdyn.AIGResNet', depth=50)" --batch 4 --size 224
"""
import argparse

from mmdyn.analysis.process_throughput import compare
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config file with a dynamic backbone, or the backbone as "dict(type=..., ...)"')
    add('--batch', type=int, default=4, help='images in all, an even number (default: %(default)s)')
    add('--size', type=int, default=224, metavar='PIXELS', help='height and width (default: %(default)s)')
    add('--threads', type=int, default=2, help='in all, an even number (default: %(default)s)')
    add('--runs', type=int, default=20, help='rounds (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(compare(**vars(args)))


if __name__ == '__main__':
    main()
