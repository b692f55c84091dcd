"""Converts a classifier of torchvision (ResNet, ResNeXt, RegNetX or MobileNetV2) for mmdyn's and mmpretrain's configs.

    python tools/model_converters/torchvision_to_mmdyn.py regnet_x_1_6gf.pth regnetx-1.6gf.pth

ResNets and ResNeXts need no conversion to start from ('torchvision://resnet50' works); with it their classifier comes
along, and every key is accounted for. All were trained on RGB images with ImageNet's mean and standard deviation.
regnet_x_400mf, wider than MMDetection's, is refused.
"""
import argparse

from mmdyn.converters.conversion import convert_file, converter_parser
from mmdyn.converters.torchvision import convert
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    return converter_parser(__doc__).parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(convert_file(args.src, args.dst, 'torchvision', convert))


if __name__ == '__main__':
    main()
