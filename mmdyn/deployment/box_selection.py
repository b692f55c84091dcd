"""Which of many scored boxes are kept, with operations that ONNX has."""
from typing import NamedTuple

import torch
from torch import Tensor

from ..engine import InputError
from .operators import nms


class Candidates(NamedTuple):
    """Scored boxes of one image.

    Attributes:
        boxes: (M, 4) left, top, right and bottom in pixels of the network's input.
        scores: (M,).
        groups: (M,) int64: boxes compete with those of their own group alone (of a class, or of a pyramid level).
    """
    boxes: Tensor
    scores: Tensor
    groups: Tensor

    def take(self, index: Tensor) -> 'Candidates':
        """Those of (K,) indices, in their order."""
        return Candidates(*(part[index] for part in self))


def check_nms(config: dict, option: str) -> None:
    """Raises InputError unless ONNX has this kind of suppression."""
    kind = config.get('type', 'nms')
    if kind != 'nms':
        raise InputError(f"{option}: expected type 'nms', the one that ONNX has, got {kind!r}. Say --cfg-options "
                         f'{option}.type=nms, or --raw to leave the choice of boxes to your application')


def clip(boxes: Tensor, image_size: Tensor) -> Tensor:
    """(..., 4) boxes, cut at the picture's frame; ``image_size`` is (2,) height and width in pixels."""
    limits = image_size.flip(0).repeat(2).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)


def larger_than(boxes: Tensor, size: float) -> Tensor:
    """(M, 4) -> (M,) bool: whether width and height are larger; all are where the size is negative."""
    if size < 0:
        return torch.ones_like(boxes[:, 0], dtype=torch.bool)
    return (boxes[:, 2:] - boxes[:, :2] > size).all(dim=1)


def suppress(candidates: Candidates, keep: Tensor, config: dict, max_boxes: int) -> Candidates:
    """The best of the candidates that do not overlap with a better one of their group, as mmcv's ``batched_nms``.

    Args:
        candidates: M boxes.
        keep: (M,) bool, which of them are considered.
        config: ``test_cfg.nms``.
        max_boxes: How many are kept at most.

    Returns:
        K boxes, the best first.
    """
    candidates = candidates.take(keep.nonzero().squeeze(1))
    boxes = candidates.boxes
    if not config.get('class_agnostic', False):
        # Groups side by side, so that none overlaps with another.
        width = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1
        boxes = boxes + (candidates.groups.to(boxes.dtype) * width)[:, None]
    return candidates.take(nms(boxes, candidates.scores, config['iou_threshold'], max_boxes))
