"""What images have cost, in every validation log."""
from typing import Any, Optional, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ..cost import blocks_run
from ..registry import METRICS
from .compute_report import ImageRecord, summarise, table, write_dump

_MISSING = ('ComputeMetric got predictions without decisions: either the backbone is static (a '
            "dynamic one is backbone=dict(type='mmdyn.AIGResNet', ...)), or nothing hands its "
            'decisions out. '
            "Add to the config:\n    custom_hooks=[dict(type='mmdyn.DynamicModelHook')]\n"
            'or, without a Runner, call mmdyn.attach(model) before predicting.')
_NO_LABELS = ('ComputeMetric got images without ground truth, which {} needs; add '
              "dict(type='LoadAnnotations', with_bbox=True) to the pipeline of the evaluated data")


@METRICS.register_module()
class ComputeMetric(BaseMetric):
    """Reports the multiply-adds of the backbone for each image, and how often its blocks ran.

    Mean, standard deviation and 5, 50 and 95 % percentiles of GMACs an image, each image at its
    own size (:class:`mmdyn.cost.CostAccount`); the ratio of the mean to that of the dense
    backbone; the open rate of each gate, or of each node of a wired stage; and how much the open
    probability of each gate spreads over the images, with a warning in words where a gate says
    about the same of every image. Goes beside the metric of accuracy::

        val_evaluator = [dict(type='CocoMetric', ...), dict(type='mmdyn.ComputeMetric')]

    Args:
        per_class: Also the mean cost of the images in which a class is present.
        per_object_size: Also the mean cost of the images that hold a small, medium or large
            object, by COCO's bounds (32^2 and 96^2 pixels) on the area of the ground truth's
            boxes, which are taken to be in the pixels of the image's file (MMDetection loads them
            after resizing).
        dump: JSON file to write, for each image, its decisions, cost, classes and objects to; see
            :func:`mmdyn.metrics.compute_report.write_dump`.
        **kwargs: Those of ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: If ``dump`` does not end in ``.json``.
    """

    default_prefix = 'compute'

    def __init__(self,
                 *,
                 per_class: bool = False,
                 per_object_size: bool = False,
                 dump: Optional[str] = None,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        if dump is not None and not str(dump).endswith('.json'):
            raise ValueError(f'dump must be a path that ends in .json, got {dump!r}')
        self.per_class = per_class
        self.per_object_size = per_object_size
        self.dump = dump

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps what is reported of each image.

        Raises:
            RuntimeError: If predictions come without decisions, or images without the ground
                truth that an option needs.
        """
        for sample in data_samples:
            if 'decisions' not in sample or 'cost' not in sample:
                raise RuntimeError(_MISSING)
            labels, boxes = _ground_truth(sample)
            for option, needed in (('per_class', labels), ('per_object_size', boxes)):
                if getattr(self, option) and needed is None:
                    raise RuntimeError(_NO_LABELS.format(option))
            self.results.append(_record(sample, labels, boxes))

    def compute_metrics(self, results: list[ImageRecord]) -> dict[str, float]:
        """The scalars for the log; writes the table to the log and the dump to its file.

        Raises:
            ValueError: If there are no images.
        """
        if not results:
            raise ValueError('ComputeMetric expected at least one image, got an evaluation of none')
        classes = list((self.dataset_meta or {}).get('classes') or ())
        summary = summarise(results, classes if self.per_class else None, self.per_object_size)
        print_log('\n' + table(summary), logger='current')
        if self.dump is not None:
            write_dump(self.dump, results, summary, classes)
        return summary.scalars()


def _record(sample: dict, labels: Optional[np.ndarray], boxes: Optional[np.ndarray]) -> ImageRecord:
    decisions, cost = sample['decisions'], sample['cost']
    ran = {name: bool(value[0]) for name, value in blocks_run(decisions).items()}
    return ImageRecord(
        image=sample.get('img_id', sample.get('sample_idx')),
        path=sample.get('img_path'),
        size=tuple(decisions.sizes[0].tolist()),
        cost=cost,
        ran=ran,
        target_rates=dict(decisions.target_rates),
        adjacency={stage: value[0].detach().cpu().numpy()
                   for stage, value in decisions.adjacency.items()},
        gate_logits={name: logit[0].item() for name, logit in decisions.gate_logits.items()},
        labels=labels,
        areas=None if boxes is None else (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _ground_truth(sample: dict) -> tuple[Optional[np.ndarray], Optional[np.ndarray]]:
    """Labels (K,) and boxes (K, 4) of a detector's sample; of a classifier's, labels alone."""
    instances = sample.get('gt_instances')
    if instances is None:
        return _array(sample.get('gt_label')), None
    boxes = instances.get('bboxes')
    return _array(instances.get('labels')), _array(getattr(boxes, 'tensor', boxes))


def _array(value: Any) -> Optional[np.ndarray]:
    if value is None:
        return None
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
