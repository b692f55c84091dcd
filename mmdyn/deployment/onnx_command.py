"""Exports a model, compares it with PyTorch, and keeps the graph only if both agree."""
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from ..engine import InputError
from .exportable import ExportableAIG
from .onnx_comparison import compare, pictures, shut_against_open
from .onnx_export import export, exportable


def check_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(H, W) of one number or two."""
    if len(shape) > 2 or min(shape) < 32:
        raise InputError(f'expected one or two numbers of at least 32 pixels in --shape, got {shape}')
    return shape[0], shape[-1]


def export_model(model: nn.Module, out: Path, *, shape: tuple[int, int], execution: str | None, images: Path | None,
                 num_images: int, benchmark: int) -> Iterator[str]:
    """Writes the graph; the options are those of tools/deployment/export_onnx.py.

    Returns:
        How well graph and PyTorch agree, then the times, if these are asked for.

    Raises:
        InputError: If the model cannot be exported so, or there are no pictures.
        RuntimeError: If the graph decides or computes otherwise than PyTorch; it is not kept.
    """
    module = exportable(model, execution)
    if benchmark and not (isinstance(module.backbone, ExportableAIG) and module.backbone.skip):
        raise InputError('--benchmark times gates that are shut and open, so it needs an AIG backbone and skipping')
    inputs = list(pictures(images, num_images, shape, model.data_preprocessor))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix('.partial.onnx')
    try:
        export(module, torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1)), partial)
        number, largest = compare(model, module, partial, inputs)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    yield f'{out}: on {number} images the decisions are those of PyTorch, the outputs within {largest:.1e} of it'
    if benchmark:
        for engine, ratio in shut_against_open(model, module, inputs[0], benchmark).items():
            yield (f'{engine}: all gates shut takes {ratio:.2f} of the time of all gates open (batch 1, '
                   f'median of {benchmark} rounds)')
