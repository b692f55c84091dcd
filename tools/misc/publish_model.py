"""Makes the checkpoint of a training run fit to be given away: the weights alone, with metadata, named by their SHA-256.

    python tools/misc/publish_model.py work_dirs/aig-r50_8xb32_in1k/epoch_100.pth published/aig-r50_8xb32_in1k

writes published/aig-r50_8xb32_in1k-<the first 8 digits of the hash>.safetensors. Optimizer, schedulers, message hub and
the local paths of the run stay behind. mmdyn's tools read such files; --format pth writes one that mmengine reads too.
"""
import argparse
from pathlib import Path

from mmdyn.engine import exit_on_bad_input
from mmdyn.engine.publishing import publish


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a training run')
    parser.add_argument('dst', metavar='DST', type=Path, help='path and first part of the name of the file to write')
    parser.add_argument('--format', choices=('safetensors', 'pth'), default='safetensors')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(publish(args.src, args.dst, args.format))


if __name__ == '__main__':
    main()
