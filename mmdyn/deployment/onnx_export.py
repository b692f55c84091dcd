"""Captures an exportable model and writes it in the words of ONNX."""
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.utils import digit_version
from torch import Tensor

from ..engine import InputError
from .exportable_model import ExportableModel
from .graph_check import check_branches
from .graph_constants import place_constants

OLDEST_TORCH = '2.6'  # torch.cond becomes an If since then
LARGEST_SIDE = 128  # of images of any size, in strides


def require_packages() -> None:
    """Raises InputError unless what an export needs is installed."""
    if digit_version(torch.__version__) < digit_version(OLDEST_TORCH):
        raise InputError(f'expected torch >= {OLDEST_TORCH}, found {torch.__version__}')
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(f'{package} is missing: pip install onnx onnxscript onnxruntime') from error


def export(module: ExportableModel, example: Tensor, *, dynamic: bool = False) -> Any:
    """Captures a model.

    Args:
        module: With ``size=None`` if the size is to be dynamic.
        example: (1, C, H, W); gives the size of the images, which the graph does not depend on if that is dynamic.
        dynamic: Whether height and width may be any multiples of the stride.

    Returns:
        The ONNX model, checked; outputs are named as those of the module.

    Raises:
        InputError: If PyTorch cannot capture it, or some operator has no form in ONNX.
        RuntimeError: If a block that may be left out is not behind a branch of its own.
    """
    import onnx

    from .onnx_operators import OPSET, TRANSLATIONS
    module.eval()
    shapes = None
    if dynamic:
        sides = [torch.export.Dim(name, min=2, max=LARGEST_SIDE) for name in ('rows', 'columns')]
        shapes = ({axis: module.stride * side for axis, side in enumerate(sides, start=2)}, )
    try:
        with torch.no_grad(), _quiet():
            captured = torch.export.export(module, (example, ), strict=False, dynamic_shapes=shapes)
            program = torch.onnx.export(
                captured, dynamo=True, verbose=False, opset_version=OPSET, input_names=['images'],
                output_names=captured.call_spec.out_spec.context, custom_translation_table=TRANSLATIONS)
    except Exception as error:  # of PyTorch's many classes
        raise InputError(_what_failed(module, error, dynamic)) from error
    proto = program.model_proto
    place_constants(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    check_branches(proto.graph, module.run)
    return proto


def _what_failed(module: ExportableModel, error: Exception, dynamic: bool) -> str:
    parts = ', '.join(type(child).__name__ for name, child in module.named_children() if name != 'data_preprocessor')
    less = 'leave --dynamic out, or ' if dynamic else ''
    reason = next(iter(str(error).strip().splitlines()), '')
    return (f'a part of the model ({parts}) has no form in ONNX, such as operators of MMCV: expected one that PyTorch '
            f'can capture, got {type(error).__name__}: {reason[:400]}\nTo export less, {less}say --raw or --backbone')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress, and what it says of its own inner parts."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)
