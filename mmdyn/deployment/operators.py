"""Operators that PyTorch and ONNX spell too differently for an exporter: PyTorch's form (ONNX's: `onnx_operators`)."""
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

_LIBRARY = torch.library.Library('mmdyn', 'DEF')
_LIBRARY.define('nms(Tensor boxes, Tensor scores, float iou_threshold, int max_boxes) -> Tensor')
_LIBRARY.define('read(Tensor edges, Tensor[] maps) -> Tensor')


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    """Greedy non-maximum suppression that ends when enough boxes are kept, which PyTorch's does not.

    Args:
        boxes: (M, 4) left, top, right, bottom.
        scores: (M,).
        iou_threshold: Of two boxes that overlap more, the worse is dropped.
        max_boxes: How many are kept at most.

    Returns:
        (K,) indices, the best first.
    """
    return torch.ops.mmdyn.nms(boxes, scores, iou_threshold, max_boxes)


def read(edges: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """What a vertex of a wired stage reads, for one image; in ONNX it reads what an open edge leads to, and no more.

    Args:
        edges: (1, J) weights, 0 where the edge is closed.
        maps: J outputs, (1, C, h, w) each.

    Returns:
        (1, C, h, w), their weighted sum.
    """
    return torch.ops.mmdyn.read(edges, maps)


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    return torchvision.ops.nms(boxes, scores, iou_threshold)[:max_boxes].clone()


def _fake_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size(min=0, max=max_boxes)
    return scores.new_empty(kept, dtype=torch.int64)


def _read(edges: Tensor, maps: Sequence[Tensor]) -> Tensor:
    return torch.stack([weight.view(-1, 1, 1, 1) * y for weight, y in zip(edges.unbind(dim=1), maps)]).sum(dim=0)


def _fake_read(edges: Tensor, maps: Sequence[Tensor]) -> Tensor:
    return torch.empty_like(maps[0])


_LIBRARY.impl('nms', _nms, 'CPU')
_LIBRARY.impl('read', _read, 'CPU')
if hasattr(torch.library, 'register_fake'):  # older releases cannot export in any case
    torch.library.register_fake('mmdyn::nms', _fake_nms, lib=_LIBRARY)
    torch.library.register_fake('mmdyn::read', _fake_read, lib=_LIBRARY)
