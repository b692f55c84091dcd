"""What a dynamic backbone costs: parameters, multiply-adds (MACs) of each stage, and those of real images."""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ..cost import CostAccount
from ..engine import InputError, check_datasets, check_output_folder
from ..metrics import ComputeMetric
from ..metrics.compute_report import ImageRecord, summarise, table, write_dump
from .trained_model import build_model, check_size, default_folder, evenly, load_weights, loader_with_images, read_config

DECIDERS = ('gate', 'router')


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
    """Runs the backbone over images spread evenly over the validation set; gives the names of its classes, too."""
    loader = loader_with_images(lambda: Runner.build_dataloader(dict(cfg.val_dataloader), seed=0))
    model.eval()
    metric = ComputeMetric()
    for data in evenly(loader, count, num_workers=loader.num_workers):
        data = model.data_preprocessor(data, False)
        model.backbone(data['inputs'])
        decisions = model.backbone.decisions.cpu()
        samples = data.get('data_samples') or [{}] * len(decisions)
        metric.process(None, [
            dict(sample.to_dict() if sample else {}, decisions=decisions[n], cost=cost)
            for n, (sample, cost) in enumerate(zip(samples, account.images(decisions)))
        ])
    return metric.results, list(loader.dataset.metainfo.get('classes') or ())


def draw_histogram(records: list[ImageRecord], path: Path, title: str) -> None:
    gmacs = [record.cost.macs / 1e9 for record in records]
    dense = [record.cost.dense_macs / 1e9 for record in records]
    figure = Figure(figsize=(10, 4), layout='tight')
    left, right = figure.subplots(1, 2)
    left.hist([gmacs, dense], bins=30, label=['dynamic', 'dense'])
    left.set(xlabel='GMACs of the backbone', ylabel='images', title=title)
    left.legend()
    right.hist([macs / whole for macs, whole in zip(gmacs, dense)], bins=50, range=(0, 1))
    right.set(xlabel='dynamic cost / dense cost', ylabel='images', title=f'{len(records)} images')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def check_options(shape: Sequence[int] | None, num_images: int, dump: str | None) -> None:
    if num_images < 0:
        raise InputError(f'--num-images expects a number of images, got {num_images}')
    if shape and len(shape) > 2:
        raise InputError(f'--shape expects one or two numbers, got {len(shape)}')
    if dump and not dump.endswith('.json'):
        raise InputError(f'--dump expects a file that ends in .json, got {dump}')


def check_images(cfg: Config) -> None:
    try:
        check_datasets(cfg, ('val', ))
    except InputError as error:
        raise InputError(f'{error}\nFor the table alone, give --num-images 0.') from None


def report_costs(config: str, checkpoint: str | None, *, shape: Sequence[int] | None, num_images: int, out: Path | None,
                 dump: str | None, cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """What the options of tools/analysis_tools/get_macs.py ask for, piece by piece as it is known.

    Raises:
        InputError, CheckpointError: If an option, the config, the checkpoint or the images cannot be used.
    """
    check_options(shape, num_images, dump)
    cfg = read_config(config, cfg_options)
    model = build_model(cfg)
    account = CostAccount(model.backbone)
    size = (shape[0], shape[-1]) if shape else evaluation_shape(cfg)
    check_size(account, size, '--shape')
    if checkpoint:
        yield load_weights(model, checkpoint, prefix='backbone.')
    yield describe(model, account, size)
    if not num_images:
        return
    check_images(cfg)
    out = out or default_folder(config, checkpoint) / 'macs.png'
    check_output_folder(str(out.parent))
    if dump:
        check_output_folder(str(Path(dump).parent))
    records, classes = run_images(model, account, cfg, num_images)
    summary = summarise(records)
    yield '\n' + table(summary)
    if not checkpoint:
        yield 'These are the decisions of fresh weights: give a checkpoint.'
    draw_histogram(records, out, type(model.backbone).__name__)
    yield f'histogram: {out}'
    if dump:
        write_dump(dump, records, summary, classes)
        yield f'decisions: {dump}'
