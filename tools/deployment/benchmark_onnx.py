"""Times files of export_onnx.py in onnxruntime, by the share of the blocks that run, beside their static counterparts.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out dynamic.onnx --shape 224
    python tools/deployment/export_onnx.py STATIC_CONFIG --out static.onnx --shape 224
    python tools/deployment/benchmark_onnx.py dynamic.onnx static.onnx --threads 1 2
    python tools/deployment/benchmark_onnx.py dynamic.onnx static.onnx --backbones backbone.onnx static_backbone.onnx

The branches are told which way to go (at random, so many of them), all else runs as ever, gates too. Static file and
open rates take turns in each round; the table has medians. With --backbones, files of `export_onnx.py --backbone`, it
also says what share the backbone has.
"""
import argparse
from pathlib import Path

from mmdyn.deployment.latency import table
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dynamic', type=Path, help='file with blocks that can be left out')
    parser.add_argument('static', type=Path, help='file of the static parent')
    parser.add_argument('--backbones', type=Path, nargs=2, metavar='FILE', help='the same two, of the backbones alone')
    parser.add_argument('--threads', type=int, nargs='+', default=[1], metavar='N', help='of onnxruntime (default: 1)')
    parser.add_argument('--rounds', type=int, default=50, metavar='N', help='(default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        for line in table((args.dynamic, args.static), args.backbones, args.threads, args.rounds):
            print(line, flush=True)


if __name__ == '__main__':
    main()
