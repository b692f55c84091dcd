"""Evaluates a file of export_onnx.py with onnxruntime, on the config's own test images and with its own metrics.

    python tools/deployment/test_onnx.py CONFIG model.onnx
    python tools/deployment/test_onnx.py CONFIG model.onnx --threads 2 --out metrics.json

AP, and the multiply-adds and open rates of mmdyn.ComputeMetric, are those of what is deployed: they stand beside what
tools/test.py says of the checkpoint. Multiply-adds are counted at the size of the graph's input.
"""
import argparse
import json
from pathlib import Path

from mmdyn.analysis.trained_model import config_parser, read_config
from mmdyn.deployment.onnx_evaluation import evaluate
from mmdyn.deployment.onnx_session import OnnxSession
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('model', type=Path, help='file of export_onnx.py, with boxes')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of onnxruntime (default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='where to write the metrics')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        metrics = evaluate(read_config(args.config, args.cfg_options), OnnxSession(args.model, threads=args.threads))
        text = json.dumps({name: float(value) for name, value in metrics.items()}, indent=2)
        print(text)
        if args.out is not None:
            args.out.write_text(text + '\n')


if __name__ == '__main__':
    main()
