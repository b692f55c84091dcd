"""From the maps of a neck to the boxes of Faster R-CNN, as ONNX can express it."""
from collections.abc import Sequence

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.ops import roi_align

from ..engine import InputError
from .box_selection import Candidates, check_nms, clip, suppress
from .dense_boxes import DenseBoxes


def check_roi_head(head: nn.Module) -> None:
    """Raises InputError unless the boxes of this head are found here as MMDetection finds them."""
    box_head, extractor = getattr(head, 'bbox_head', None), getattr(head, 'bbox_roi_extractor', None)
    reasons = {
        type(head).__name__: all(getattr(type(head), method, None) is getattr(StandardRoIHead, method)
                                 for method in ('predict_bbox', '_bbox_forward')),
        type(box_head).__name__: isinstance(box_head, BBoxHead) and not box_head.custom_cls_channels
        and type(box_head)._predict_by_feat_single is BBoxHead._predict_by_feat_single and box_head.with_reg,
        type(extractor).__name__: type(extractor) is SingleRoIExtractor
        and all(isinstance(layer, RoIAlign) and layer.pool_mode == 'avg' for layer in extractor.roi_layers),
    }
    for name, known in reasons.items():
        if not known:
            raise InputError(f'{name} finds boxes in a way of its own, which is not exported: expected the '
                             'StandardRoIHead of Faster R-CNN or Mask R-CNN with a BBoxHead and average RoIAlign. Say '
                             '--raw to export the maps of neck and RPN, and find the boxes in your application')
    check_nms(head.test_cfg.nms, 'model.test_cfg.rcnn.nms')


class TwoStageBoxes:
    """The boxes of Faster R-CNN, or of Mask R-CNN without its masks, of one image.

    Args:
        rpn_head, roi_head: MMDetection's, with their ``test_cfg``.

    Raises:
        InputError: If their boxes are found in another way than here.
    """

    def __init__(self, rpn_head: nn.Module, roi_head: nn.Module) -> None:
        check_roi_head(roi_head)
        self.rpn_head, self.roi_head = rpn_head, roi_head
        self.propose = DenseBoxes(rpn_head)

    def __call__(self, maps: Sequence[Tensor], image_size: Tensor) -> Candidates:
        """Finds the boxes.

        Args:
            maps: Of the neck, (1, C, h, w) a level.
            image_size: (2,) height and width in pixels, without padding.

        Returns:
            At most ``max_per_img`` boxes, the best first; their groups are the classes.
        """
        proposals = self.propose(self.rpn_head(maps), image_size).boxes
        proposals, features = self._pool(maps, proposals)
        if self.roi_head.with_shared_head:
            features = self.roi_head.shared_head(features)
        logits, deltas = self.roi_head.bbox_head(features)
        return self._classify(proposals, logits.softmax(-1)[:, :-1], deltas, image_size)

    def _pool(self, maps: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes, level by level (Feature Pyramid Networks, equation 1), and their (R, C, h, w) features."""
        extractor = self.roi_head.bbox_roi_extractor
        levels = extractor.num_inputs
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)  # all of image 0
        level = extractor.map_roi_levels(rois, levels)
        of_level = [rois[(level == i).nonzero().squeeze(1)] for i in range(levels)] if levels > 1 else [rois]
        features = [roi_align(x, some, layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)
                    for x, some, layer in zip(maps, of_level, extractor.roi_layers)]
        return torch.cat(of_level)[:, 1:], torch.cat(features)

    def _classify(self, proposals: Tensor, scores: Tensor, deltas: Tensor, image_size: Tensor) -> Candidates:
        """What mmdet's ``multiclass_nms`` keeps.

        Args:
            proposals: (R, 4).
            scores: (R, classes), without the background.
            deltas: (R, 4 * classes), or (R, 4) for all classes.
        """
        head, config = self.roi_head.bbox_head, self.roi_head.test_cfg
        classes = scores.shape[1]
        index = (scores.flatten() > config.score_thr).nonzero().squeeze(1)
        box, label = index // classes, index % classes
        of_class = torch.zeros_like(label) if head.reg_class_agnostic else label
        deltas = deltas.unflatten(1, (-1, head.bbox_coder.encode_size))[box, of_class]
        # One more, to be dropped: coders ask whether there are any, and a graph cannot answer.
        boxes = head.bbox_coder.decode(pad(proposals[box], (0, 0, 0, 1)), pad(deltas, (0, 0, 0, 1)), max_shape=None)
        boxes = get_box_tensor(boxes)[:-1]
        if head.bbox_coder.clip_border:
            boxes = clip(boxes, image_size)
        found = Candidates(boxes, scores.flatten()[index], label)
        return suppress(found, torch.ones_like(label, dtype=torch.bool), config.nms, config.max_per_img)
