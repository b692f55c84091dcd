"""What a model says of an image, in the form in which it is drawn."""
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Detections to draw onto an image, and a caption to put below it.

    Attributes:
        boxes: (K, 4) corners x1, y1, x2, y2 in pixels of the image.
        texts: One for each box.
        kinds: (K,) class indices; boxes of a class share a colour.
        caption: Of the image as a whole.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    texts: tuple[str, ...] = ()
    kinds: tuple[int, ...] = ()
    caption: str = ''


def read_prediction(sample: Any,
                    classes: Optional[Sequence[str]] = None,
                    *,
                    score_threshold: float = 0.3) -> Prediction:
    """Reads the data sample of an MMDetection detector or an MMPretrain classifier.

    Args:
        sample: With ``pred_instances``, or ``pred_score`` and ``pred_label``; empty for others.
        classes: Their names; without them their indices are shown.
        score_threshold: Detections below it are left out.
    """
    if 'pred_instances' in sample:
        return _detections(sample.pred_instances, classes, score_threshold)
    if 'pred_score' in sample and 'pred_label' in sample:
        return Prediction(caption=_classification(sample, classes))
    return Prediction()


def _name(label: int, classes: Optional[Sequence[str]]) -> str:
    return classes[label] if classes and label < len(classes) else f'class {label}'


def _detections(instances: Any, classes: Optional[Sequence[str]],
                score_threshold: float) -> Prediction:
    kept = instances[instances.scores >= score_threshold].cpu()
    labels = kept.labels.tolist()
    boxes = getattr(kept.bboxes, 'tensor', kept.bboxes).numpy().reshape(-1, 4)
    texts = tuple(f'{_name(label, classes)} {score:.2f}'
                  for label, score in zip(labels, kept.scores.tolist()))
    plural = '' if len(labels) == 1 else 's'
    count = f'{len(labels)} detection{plural} of score {score_threshold:g} or more'
    return Prediction(boxes, texts, tuple(labels), count)


def _classification(sample: Any, classes: Optional[Sequence[str]]) -> str:
    label = sample.pred_label.flatten()[0].item()
    caption = f'{_name(label, classes)} {sample.pred_score.max().item():.2f}'
    if 'gt_label' in sample:
        truth = ', '.join(_name(label, classes) for label in sample.gt_label.flatten().tolist())
        caption += f' (truth: {truth})'
    return caption
