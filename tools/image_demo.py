"""Detects what is on a picture, without a Runner, and prints the boxes, the blocks that ran and what they cost.

    python tools/image_demo.py street.jpg CONFIG CHECKPOINT

Short enough to be the beginning of a program of your own: `mmdyn.attach` is all that it adds to MMDetection's lines.
"""
import argparse

import mmdyn
from mmdet.apis import inference_detector, init_detector
from mmdyn.cost import blocks_run
from mmdyn.engine import blame, check_file, checkpoint_files, exit_on_bad_input, require_fit


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='config file of a detector with a dynamic backbone')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--device', default='cpu', help='such as cpu or cuda:0 (default: %(default)s)')
    parser.add_argument('--score-threshold', type=float, default=0.3, metavar='SCORE',
                        help='detections below it are not printed (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        check_file(args.image, 'an image')
        check_file(args.config, 'a config file')
        weights = checkpoint_files.guarded(args.checkpoint)  # read as data: what it may carry is not run
        with blame('the detector cannot be built'):
            model = init_detector(args.config, weights, device=args.device)
        require_fit(model, weights)
        mmdyn.attach(model)  # from now on each prediction has its decisions and its cost
        with blame(f'{args.image} cannot be read as an image'):
            result = inference_detector(model, args.image)
    found = result.pred_instances[result.pred_instances.scores >= args.score_threshold].cpu()
    for box, label, score in zip(found.bboxes.round().int().tolist(), found.labels, found.scores):
        print(f'{score:.2f}  {model.dataset_meta["classes"][label]:<12} x1, y1, x2, y2 = {box}')
    for name, ran in blocks_run(result.decisions).items():
        print(f'{name}: {"ran" if ran[0] > 0 else "skipped"}')
    macs, dense = result.cost.macs, result.cost.dense_macs
    print(f'{macs / 1e9:.3f} of {dense / 1e9:.3f} GMACs of the backbone, {macs / dense:.0%}')


if __name__ == '__main__':
    main()
