"""What a graph can return beside the decisions: boxes, the maps of a head, class scores, or the backbone's maps."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ..engine import InputError
from .box_selection import Candidates
from .dense_boxes import DenseBoxes
from .two_stage_boxes import TwoStageBoxes

Maps = Sequence[Tensor]
Named = dict[str, Tensor]


@dataclass(frozen=True)
class Outputs:
    """One kind of outputs.

    Attributes:
        compute: (feature maps of the backbone, (2,) size of the image without padding) -> name -> output, so that it
            can be captured.
        reference: (1, C, H, W) image and its size without padding -> the same, as MMDetection or MMPretrain itself
            computes it.
    """
    compute: Callable[[Maps, Tensor], Named]
    reference: Callable[[Tensor, tuple[int, int]], Named]


def outputs_of(model: nn.Module, kind: str) -> Outputs:
    """What is exported of a model.

    Args:
        model: Of MMDetection, MMPretrain or anything else with a backbone.
        kind: ``'result'``: a detector's boxes, a classifier's scores; ``'maps'``: those that the boxes would be found
            in; ``'backbone'``: the backbone's alone, which is all that is exported of other models.

    Raises:
        InputError: If boxes are asked for that cannot be found in the graph.
    """
    if kind == 'backbone':
        return _features(model)
    if type(model).__name__ == 'ImageClassifier':
        return _scores(model)
    if isinstance(model, TwoStageDetector):
        if kind == 'result':
            return _boxes(model, TwoStageBoxes(model.rpn_head, model.roi_head))
        return _maps(model, lambda maps: dict(zip(('neck', 'cls_score', 'bbox_pred'), (maps, *model.rpn_head(maps)))))
    if isinstance(model, SingleStageDetector):
        if kind == 'result':
            if not hasattr(model.bbox_head, 'loss_cls'):
                model.bbox_head.loss_cls = None  # SSDHead's own prediction asks for it (MMDetection's issue 11063)
            choose = DenseBoxes(model.bbox_head)
            return _boxes(model, lambda maps, size: choose(model.bbox_head(maps), size))
        return _maps(model, lambda maps: dict(zip(('cls_score', 'bbox_pred', 'score_factor'), model.bbox_head(maps))))
    if hasattr(model, 'bbox_head') and kind == 'result':
        raise InputError(f'{type(model).__name__} with its {type(model.bbox_head).__name__} is not exported whole: '
                         'expected a one-stage detector with a dense head, Faster R-CNN or Mask R-CNN. Say --raw to '
                         'export the maps that the head reads')
    return _maps(model, lambda maps: dict(neck=maps)) if getattr(model, 'with_neck', False) else _features(model)


def _features(model: nn.Module) -> Outputs:

    def named(features: Maps) -> Named:
        return {f'features_{i}': maps for i, maps in zip(model.backbone.out_indices, features)}

    return Outputs(lambda features, size: named(features), lambda image, size: named(model.backbone(image)))


def _scores(model: nn.Module) -> Outputs:

    def compute(features: Maps, size: Tensor) -> Named:
        return dict(logits=model.head(model.neck(features) if model.with_neck else features))

    return Outputs(compute, lambda image, size: dict(logits=model(image, mode='tensor')))


def _maps(model: nn.Module, head: Callable[[Maps], dict[str, Maps]]) -> Outputs:

    def named(maps: Maps) -> Named:
        return {f'{kind}_{i}': level for kind, levels in head(maps).items() for i, level in enumerate(levels)}

    return Outputs(lambda features, size: named(_after_neck(model, features)),
                   lambda image, size: named(model.extract_feat(image)))


def _boxes(model: nn.Module, choose: Callable[[Maps, Tensor], Candidates]) -> Outputs:

    def compute(features: Maps, size: Tensor) -> Named:
        found = choose(_after_neck(model, features), size)
        return dict(boxes=found.boxes, scores=found.scores, labels=found.groups)

    def reference(image: Tensor, size: tuple[int, int]) -> Named:
        frame = tuple(image.shape[2:])
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), pad_shape=frame,
                                             batch_input_shape=frame))
        found = model.predict(image, [sample], rescale=False)[0].pred_instances
        return dict(boxes=found.bboxes, scores=found.scores, labels=found.labels)

    return Outputs(compute, reference)


def _after_neck(model: nn.Module, features: Maps) -> Maps:
    return model.neck(features) if model.with_neck else features
