"""Tells what a dynamic backbone costs: parameters, multiply-adds (MACs) of each stage, and those of real images.

    python tools/analysis_tools/get_macs.py CONFIG                       # as it starts, before any training
    python tools/analysis_tools/get_macs.py CONFIG CHECKPOINT --num-images 500

Counted are the convolutions and linear layers of the backbone, gates and routers included, half of what PyTorch's
FlopCounterMode sees. Each image counts at the size that it would be padded to alone. The histogram is written as a PNG.
"""
import argparse
from itertools import islice
from pathlib import Path

import torch
from mmdyn.cost import CostAccount
from mmdyn.engine import InputError, check_datasets, check_output_folder, exit_on_bad_input
from mmdyn.metrics import ComputeMetric
from mmdyn.metrics.compute_report import ImageRecord, summarise, table, write_dump
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from trained_model import (build_model, check_size, check_weights, config_parser, read_config, read_weights,
                           validation_images)

DECIDERS = ('gate', 'router')


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?',
                        help='checkpoint file; without it, decisions are those of fresh weights')
    parser.add_argument('--shape', type=int, nargs='+', metavar='PIXELS',
                        help="height and width, or one number for both (default: the evaluation pipeline's)")
    parser.add_argument('--num-images', type=int, default=100, metavar='N',
                        help="images of the config's validation set to run; 0 for none (default: %(default)s)")
    parser.add_argument('--out', type=Path, metavar='FILE.png',
                        help="histogram of the images' cost (default: work_dirs/<the config's name>/macs.png)")
    parser.add_argument('--dump', metavar='FILE.json', help='decisions and cost of each image, for the analysis tools')
    return parser.parse_args()


def evaluation_shape(cfg: Config) -> tuple[int, int]:
    """(H, W) of what the evaluation pipeline resizes or crops to, as a detector pads it; else 224 x 224."""
    loader = cfg.get('val_dataloader') or {}
    for transform in reversed(loader.get('dataset', {}).get('pipeline', [])):
        size = transform.get('crop_size') or transform.get('scale')
        if isinstance(size, int):
            size = (size, size)
        if isinstance(size, (list, tuple)) and all(isinstance(length, int) for length in size):
            width, height = size
            return tuple(-(-length // 32) * 32 for length in (height, width))
    return 224, 224


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def describe(model: nn.Module, account: CostAccount, shape: tuple[int, int]) -> str:
    """Parameters of the model and dense cost of its backbone, stage by stage."""
    backbone, parts = model.backbone, account.parts(shape)
    deciders = sum(map(parameters, backbone.deciders()))
    dense = sum(part.macs for part in parts)
    kind = next((part.kind for part in parts if part.kind in DECIDERS), 'gate') + 's'
    lines = [
        f'{type(backbone).__name__}: {parameters(backbone) / 1e6:.2f} M parameters, {deciders / 1e6:.3f} M of them in '
        f'{kind}; the whole model has {parameters(model) / 1e6:.2f} M',
        f'dense cost of an image of {shape[0]} x {shape[1]} pixels in the backbone, in GMACs:',
        f'  {"stage":<10}{"blocks":>10}{kind:>12}{"sum":>12}{"share":>9}'
    ]
    for stage in dict.fromkeys(part.stage for part in parts):
        own = [part for part in parts if part.stage == stage]
        deciding = sum(part.macs for part in own if part.kind in DECIDERS)
        total = sum(part.macs for part in own)
        lines.append(f'  {stage:<10}{(total - deciding) / 1e9:>10.4f}{deciding / 1e9:>12.6f}{total / 1e9:>12.6f}'
                     f'{total / dense:>9.1%}')
    deciding = sum(part.macs for part in parts if part.kind in DECIDERS)
    lines.append(f'  {"sum":<10}{(dense - deciding) / 1e9:>10.4f}{deciding / 1e9:>12.6f}{dense / 1e9:>12.6f}')
    optional = sum(account.conditional_macs(shape).values())
    lines.append(f'{kind}: {deciding / dense:.5%} of the cost; always run: {1 - optional / dense:.1%}')
    return '\n'.join(lines)


@torch.no_grad()
def run_images(model: nn.Module, account: CostAccount, cfg: Config,
               count: int) -> tuple[list[ImageRecord], list[str]]:
    """Runs the backbone over the first images of the validation set; gives the names of its classes, too."""
    loader = validation_images(lambda: Runner.build_dataloader(dict(cfg.val_dataloader), seed=0))
    model.eval()
    metric = ComputeMetric()
    batches = -(-count // loader.batch_size)
    for data in islice(loader, batches):
        data = model.data_preprocessor(data, False)
        model.backbone(data['inputs'])
        decisions = model.backbone.decisions
        samples = data.get('data_samples') or [{}] * len(decisions)
        metric.process(None, [
            dict(sample.to_dict() if sample else {}, decisions=decisions[n], cost=cost)
            for n, (sample, cost) in enumerate(zip(samples, account.images(decisions)))
        ])
    return metric.results[:count], list(loader.dataset.metainfo.get('classes') or ())


def draw_histogram(records: list[ImageRecord], path: Path, title: str) -> None:
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    gmacs = [record.cost.macs / 1e9 for record in records]
    dense = [record.cost.dense_macs / 1e9 for record in records]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.hist([gmacs, dense], bins=30, label=['dynamic', 'dense'])
    left.set(xlabel='GMACs of the backbone', ylabel='images', title=title)
    left.legend()
    right.hist([macs / whole for macs, whole in zip(gmacs, dense)], bins=50, range=(0, 1))
    right.set(xlabel='dynamic cost / dense cost', ylabel='images', title=f'{len(records)} images')
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        if args.num_images < 0:
            raise InputError(f'--num-images expects a number of images, got {args.num_images}')
        if args.shape and len(args.shape) > 2:
            raise InputError(f'--shape expects one or two numbers, got {len(args.shape)}')
        if args.dump and not args.dump.endswith('.json'):
            raise InputError(f'--dump expects a file that ends in .json, got {args.dump}')
        cfg = read_config(args)
        model = build_model(cfg)
        account = CostAccount(model.backbone)
        shape = tuple((args.shape * 2)[:2]) if args.shape else evaluation_shape(cfg)
        check_size(account, shape, '--shape')
        if args.checkpoint:
            weights = read_weights(args.checkpoint)
            print(check_weights(model, weights, args.checkpoint, prefix='backbone.'))
            model.load_state_dict(weights, strict=False)
        print(describe(model, account, shape))
        if not args.num_images:
            return
        try:
            check_datasets(cfg, ('val', ))
        except InputError as error:
            raise InputError(f'{error}\nFor the table alone, give --num-images 0.') from None
        out = args.out or Path('work_dirs') / Path(args.config).stem / 'macs.png'
        for file in filter(None, (out, args.dump)):
            check_output_folder(str(Path(file).parent))
        records, classes = run_images(model, account, cfg, args.num_images)
    summary = summarise(records)
    print('\n' + table(summary))
    if not args.checkpoint:
        print('These are the decisions of fresh weights: give a checkpoint.')
    draw_histogram(records, out, type(model.backbone).__name__)
    print(f'histogram: {out}')
    if args.dump:
        write_dump(args.dump, records, summary, classes)
        print(f'decisions: {args.dump}')


if __name__ == '__main__':
    main()
