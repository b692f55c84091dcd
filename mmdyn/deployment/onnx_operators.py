"""ONNX's form of the operators in `operators`. Needs onnxscript, so it is imported when an export begins."""
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import FLOAT, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from . import operators  # noqa: F401  which are translated

OPSET = op.version


def nms(boxes: Any, scores: Any, iou_threshold: float, max_boxes: int) -> Any:
    """ONNX's operator gives (batch, class, box) of each box that is kept."""
    kept = op.NonMaxSuppression(op.Unsqueeze(boxes, [0]), op.Unsqueeze(scores, [0, 1]), max_boxes, iou_threshold)
    return op.Gather(kept, 2, axis=1)


def read(edges: Any, maps: Sequence[Any]) -> Any:
    """A branch for each edge but the last: those of dead nodes lead to zeros, and zeros are not read either."""
    *others, last = range(len(maps))
    total = op.Mul(op.Gather(edges, [last], axis=1), maps[last])
    for i in others:
        total = add_if_open(total, op.Gather(edges, [i], axis=1), maps[i])
    return total


@script(Opset('mmdyn', 1), default_opset=op)
def add_if_open(total: FLOAT[...], weight: FLOAT[...], y: FLOAT[...]) -> FLOAT[...]:
    """An `If` in the graph."""
    if weight > 0.0:
        out = total + weight * y
    else:
        out = op.Identity(total)
    return out


TRANSLATIONS: dict[Callable, Callable] = {torch.ops.mmdyn.nms.default: nms, torch.ops.mmdyn.read.default: read}
