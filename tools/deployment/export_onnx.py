"""Exports a dynamic backbone, or a classifier with one, to ONNX, and compares it with PyTorch.

    python tools/deployment/export_onnx.py CONFIG [CHECKPOINT] --out model.onnx --shape 224
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx --images FOLDER --num-images 100
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx --benchmark 50

With gates (AIG) each gated block is behind an `If` node, so onnxruntime skips what is closed; `--execution mask` runs
everything and multiplies, for runtimes without `If`. Wired stages (DG) are always exported masked. Of a classifier of
mmpretrain the logits are exported, of everything else the backbone's feature maps; the decisions come with both. The
graph takes one image of the given size, normalised as the config says; padding at the right and bottom is 0.

The file is written only if, on all images compared, the decisions are PyTorch's and the outputs are within 1e-4 of it,
relative to their largest value. Needs onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime
"""
import argparse
from pathlib import Path

from mmdyn.analysis.trained_model import build_model, config_parser, load_weights, read_config
from mmdyn.deployment.onnx_command import check_shape, export_model
from mmdyn.deployment.onnx_export import EXECUTIONS, require_packages
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; without it, fresh weights are exported')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.onnx', help='where to write the graph')
    parser.add_argument('--shape', type=int, nargs='+', default=[224], metavar='PIXELS',
                        help='height and width, or one number for both (default: 224)')
    parser.add_argument('--execution', choices=EXECUTIONS,
                        help="'skip' what is closed, or 'mask' it (default: skip for gates; wired stages only mask)")
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='pictures to compare on (default: seeded noise)')
    parser.add_argument('--num-images', type=int, default=20, metavar='N', help='how many (default: %(default)s)')
    parser.add_argument('--benchmark', type=int, default=0, metavar='ROUNDS',
                        help='also time all gates shut against all open, in onnxruntime and in PyTorch, in turn')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        shape = check_shape(args.shape)
        require_packages()
        model = build_model(read_config(args.config, args.cfg_options)).eval()
        if args.checkpoint is not None:
            load_weights(model, args.checkpoint)
        for text in export_model(model, args.out, shape=shape, execution=args.execution, images=args.images,
                                 num_images=args.num_images, benchmark=args.benchmark):
            print(text)


if __name__ == '__main__':
    main()
