"""Exports a model, compares it with PyTorch, and keeps the graph only if both agree."""
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from ..engine import InputError, check_output_folder
from ..engine.atomic_backend import write_atomically
from . import metadata
from .detection_match import PIXELS, SCORE
from .exportable_model import ExportableModel
from .onnx_comparison import compare, pictures
from .onnx_export import export
from .onnx_session import OnnxSession


def check_arguments(out: Path, shape: Sequence[int]) -> tuple[int, int]:
    """(H, W) of one number or two.

    Raises:
        InputError: If these are no sizes, or the file cannot be written.
    """
    if len(shape) > 2 or min(shape) < 32:
        raise InputError(f'expected one or two numbers of at least 32 pixels in --shape, got {list(shape)}')
    if out.suffix != '.onnx' or out.is_dir():
        raise InputError(f'expected the name of a file that ends in .onnx in --out, got {out}')
    check_output_folder(str(out.parent))
    return shape[0], shape[-1]


def export_model(model: nn.Module, cfg: Config, out: Path, *, shape: tuple[int, int], dynamic: bool, kind: str,
                 execution: str | None, images: Path | None, num_images: int) -> Iterator[str]:
    """Writes the graph; the options are those of tools/deployment/export_onnx.py.

    Returns:
        How well graph and PyTorch agree.

    Raises:
        InputError: If the model cannot be exported so, or there are no pictures.
        RuntimeError: If the graph decides or computes otherwise than PyTorch; it is not kept.
    """
    module = ExportableModel(model, kind=kind, execution=execution, size=None if dynamic else shape)
    check_shape(shape, module.stride)
    inputs = list(pictures(images, num_images, shape, model.data_preprocessor))
    yield 'capturing and translating the graph, which takes a minute or more'
    proto = export(module, torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1)), dynamic=dynamic)
    metadata.write(proto, metadata.describe(cfg) | dict(
        blocks=module.run.block_names(), stride=module.stride, dense_macs=None if dynamic else module.macs[''][0]))
    graph = proto.SerializeToString()
    session = OnnxSession(out, graph, threads=torch.get_num_threads())
    number, largest = compare(model, module, session, inputs)
    write_atomically(graph, out)
    size = f'any size in multiples of {module.stride}' if dynamic else f'{shape[0]} x {shape[1]}'
    boxes = f'the boxes within {PIXELS} pixels of its, their scores within {SCORE}'
    yield (f'{out}: opset {proto.opset_import[0].version}, one image of {size}, '
           f'{len(module.run.conditional_blocks())} blocks behind branches; on {number} images the decisions are those '
           f'of PyTorch, {boxes if "boxes" in session.names else f"outputs within {largest:.1e} of it"}')


def check_shape(shape: tuple[int, int], stride: int) -> None:
    """Raises InputError unless a backbone's coarsest map has whole cells."""
    if any(side % stride for side in shape):
        fitting = [-(-side // stride) * stride for side in shape]
        raise InputError(f'expected --shape in multiples of {stride}, the stride of this backbone, got {shape[0]} x '
                         f'{shape[1]}: say --shape {fitting[0]} {fitting[1]}')
