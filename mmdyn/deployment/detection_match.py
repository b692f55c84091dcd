"""Are two lists of detections the same, but for what lies at a threshold?"""
import torch
from torch import Tensor
from torchvision.ops import box_iou

from .outputs import Named

PIXELS = 0.1
SCORE = 1e-3
OVERLAP = 1e-3


def match(ours: Named, theirs: Named, config: dict) -> None:
    """Compares the detections of two runtimes, which round differently.

    What only one of them has must be at a threshold: a score at the least one or at that of the last of the
    ``max_per_img`` boxes, or an overlap with a better box of either at the limit.

    Args:
        ours, theirs: ``boxes`` (K, 4), ``scores`` (K,) and ``labels`` (K,); K may differ.
        config: ``test_cfg``: ``score_thr``, ``max_per_img`` and ``nms``.

    Raises:
        RuntimeError: If a detection has no counterpart within 0.1 pixels and 0.001 of the score, at no threshold.
    """
    everything = {name: torch.cat([ours[name], theirs[name]]) for name in ours}
    for some, others in ((ours, theirs), (theirs, ours)):
        for box, score, label in zip(some['boxes'], some['scores'], some['labels']):
            if not _has(others, box, score, label) and not _at_threshold(box, score, label, some, everything, config):
                raise RuntimeError(f'expected the same detections, but one of the two alone has class {int(label)} '
                                   f'with a score of {score:.4f} at {[round(side, 1) for side in box.tolist()]}')


def _has(others: Named, box: Tensor, score: Tensor, label: Tensor) -> bool:
    near = ((others['boxes'] - box).abs().amax(dim=1) <= PIXELS) & ((others['scores'] - score).abs() <= SCORE)
    return bool((near & (others['labels'] == label)).any())


def _at_threshold(box: Tensor, score: Tensor, label: Tensor, found: Named, everything: Named, config: dict) -> bool:
    if score <= config['score_thr'] + SCORE:
        return True
    if len(found['scores']) == config['max_per_img'] and score <= found['scores'].min() + SCORE:
        return True
    rivals = (everything['labels'] == label) & (everything['scores'] >= score - SCORE)
    if config['nms'].get('class_agnostic'):
        rivals = everything['scores'] >= score - SCORE
    overlaps = box_iou(box[None], everything['boxes'][rivals])[0]
    return bool(((overlaps - config['nms']['iou_threshold']).abs() <= OVERLAP).any())
