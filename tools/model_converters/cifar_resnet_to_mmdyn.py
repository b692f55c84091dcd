"""Converts a CIFAR ResNet of akamaster/pytorch_resnet_cifar10 into a checkpoint for mmpretrain's configs.

    python tools/model_converters/cifar_resnet_to_mmdyn.py resnet56.th cifar-resnet56.pth

DST fits an ImageClassifier with the backbone ResNetCIFAR, AIGResNetCIFAR or DGResNetCIFAR of the same depth.
"""
import argparse

from mmdyn.converters.conversion import convert_file, converter_parser
from mmdyn.converters.cifar_resnet import convert
from mmdyn.engine import exit_on_bad_input


def parse_args() -> argparse.Namespace:
    return converter_parser(__doc__).parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        print(convert_file(args.src, args.dst, 'akamaster/pytorch_resnet_cifar10', convert))


if __name__ == '__main__':
    main()
