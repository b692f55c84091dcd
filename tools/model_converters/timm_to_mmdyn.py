"""Converts a classifier of timm (ResNet, ResNeXt, RegNetX or MobileNetV2) for mmdyn's and mmpretrain's configs.

    python tools/model_converters/timm_to_mmdyn.py model.safetensors regnetx-1.6gf.pth

Taken are timm's resnet18 to resnet152, resnext*_32x4d and the like, regnetx_* and mobilenetv2_*; variants with other
stems, squeeze-and-excitation or TensorFlow's padding are not MMDetection's networks, and are refused.
"""
import argparse

from mmdyn.converters.conversion import convert_file, converter_parser
from mmdyn.converters.timm import convert
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    return converter_parser(__doc__).parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(convert_file(args.src, args.dst, 'timm', convert))


if __name__ == '__main__':
    main()
