"""Writes a small COCO-format detection set of drawn shapes: something to train on where COCO is not at hand.

Textured shapes of several classes and sizes lie over each other on textured backgrounds. Boxes, areas and masks are
those of the visible part. The same options always give the same files, bit for bit.
"""
import argparse
from pathlib import Path

from mmdyn.demo.shapes import make_dataset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=500, help='training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=100, help='validation images (default: %(default)s)')
    parser.add_argument('--size', type=int, default=128, help='side of the images in pixels (default: %(default)s)')
    parser.add_argument('--max-objects', type=int, default=6, help='most shapes on an image (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed, another set (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        print(make_dataset(args.out, args.train, args.val, args.size, args.max_objects, args.seed))
    except (ValueError, OSError) as error:
        raise SystemExit(f'make_shapes_dataset.py: {error}') from None


if __name__ == '__main__':
    main()
