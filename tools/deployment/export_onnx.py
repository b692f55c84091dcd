"""Exports a detector from the image to the boxes, or a classifier, as one ONNX file that skips, compared with PyTorch.

    python tools/deployment/export_onnx.py CONFIG [CHECKPOINT] --out model.onnx --shape 320
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx --shape 320 --images FOLDER

One image goes in, normalised as the config says (the file's metadata have it). Rows and columns of zeros at the right
and bottom are padding: gates do not see it, boxes end before it. Out come:

    boxes, scores, labels    (K, 4) left, top, right and bottom in pixels of the input, (K,) and (K,), the best first;
                             thresholds, NMS and the largest K are those of the config's test_cfg
    logits                   of a classifier, (1, classes)
    blocks                   (1, blocks) 1 where a block ran that may be left out; its names are in the metadata
    adjacency_STAGE          of wired stages (DG), (1, n+1, n+1)
    macs                     (2,) multiply-adds of what ran of the backbone, and of all of it

Each gated block (AIG), and each node of a wired stage (DG), is behind an `If` of its own, so onnxruntime skips what is
closed; `--execution mask` runs everything and multiplies, for runtimes without `If`. Covered are one-stage detectors
with a dense head (RetinaNet, SSD, FCOS, ATSS, GFL and what chooses boxes as they do), Faster R-CNN, Mask R-CNN without
its masks, and classifiers of MMPretrain; with dynamic backbones and with static ones. `--raw` gives the maps in which
the boxes would be found, `--backbone` those of the backbone, for any model that has one.

The file is written only if, on all images compared, the decisions are PyTorch's, the boxes within 0.1 pixels and their
scores within 0.001 where neither is at a threshold, and other outputs within 1e-4, relative to their largest value.
Needs torch >= 2.6, and onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime
"""
import argparse
from pathlib import Path

from mmdyn.analysis.trained_model import build_model, config_parser, load_weights, read_config
from mmdyn.backbones.dynamic_backbone import EXECUTIONS
from mmdyn.deployment.onnx_command import check_arguments, export_model
from mmdyn.deployment.onnx_export import require_packages
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; without it, fresh weights are exported')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.onnx', help='where to write the graph')
    parser.add_argument('--shape', type=int, nargs='+', default=[224], metavar='PIXELS',
                        help='height and width, or one number for both (default: 224)')
    parser.add_argument('--dynamic', action='store_true',
                        help='let height and width be any multiples of the stride; --shape is that of the comparison')
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--raw', dest='kind', action='store_const', const='maps', default='result',
                      help='no post-processing: the maps of the head, of two-stage detectors those of neck and RPN')
    kind.add_argument('--backbone', dest='kind', action='store_const', const='backbone',
                      help="the backbone's maps alone")
    parser.add_argument('--execution', choices=EXECUTIONS,
                        help="'skip' what is closed, or 'mask' it (default: skip, unless the policy runs everything)")
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='pictures to compare on (default: seeded noise)')
    parser.add_argument('--num-images', type=int, default=20, metavar='N', help='how many (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        require_packages()
        shape = check_arguments(args.out, args.shape, args.num_images)
        cfg = read_config(args.config, args.cfg_options)
        model = build_model(cfg, dynamic=False).eval()
        if args.checkpoint is not None:
            load_weights(model, args.checkpoint)
        for text in export_model(model, cfg, args.out, shape=shape, dynamic=args.dynamic, kind=args.kind,
                                 execution=args.execution, images=args.images, num_images=args.num_images):
            print(text, flush=True)


if __name__ == '__main__':
    main()
