"""From the maps of a dense head to scored boxes: MMDetection's ``predict_by_feat``, as ONNX can express it."""
from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn

from ..engine import InputError
from .box_selection import Candidates, check_nms, clip, larger_than, suppress

# What is done here for all heads whose way from maps to boxes is one of these, whatever their layers.
_METHODS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
_KNOWN = (BaseDenseHead, GFLHead, RPNHead)


def check_head(head: nn.Module) -> None:
    """Raises InputError unless the boxes of this head are chosen here as MMDetection chooses them."""
    name = type(head).__name__
    known = isinstance(head, BaseDenseHead) and any(
        all(getattr(type(head), method, None) is getattr(parent, method, None) for method in _METHODS)
        for parent in _KNOWN)
    if not known or getattr(head.loss_cls, 'custom_cls_channels', False):
        raise InputError(f'{name} turns its maps into boxes in a way of its own, which is not exported: expected a '
                         "head with the predict_by_feat of MMDetection's BaseDenseHead (RetinaNet, SSD, FCOS, ATSS...) "
                         'or of GFLHead. Say --raw to export its maps, and choose the boxes in your application')
    check_nms(head.test_cfg.nms, 'model.test_cfg.rpn.nms' if isinstance(head, RPNHead) else 'model.test_cfg.nms')


class DenseBoxes:
    """The boxes of a dense head, anchor-based or anchor-free, of one image.

    Args:
        head: MMDetection's, with its ``test_cfg``.

    Raises:
        InputError: If its boxes are found in another way than here.
    """

    def __init__(self, head: nn.Module) -> None:
        check_head(head)
        self.head = head
        self.classes = head.cls_out_channels - (not head.use_sigmoid_cls)

    def __call__(self, maps: Sequence[Sequence[Tensor]], image_size: Tensor) -> Candidates:
        """Chooses the boxes.

        Args:
            maps: Of the head: for each kind (scores, boxes, perhaps score factors) one (1, C, h, w) a level.
            image_size: (2,) height and width in pixels, without padding.

        Returns:
            At most ``max_per_img`` boxes, the best first; their groups are the classes.
        """
        config = self.head.test_cfg
        priors = self.head.prior_generator.grid_priors([level.shape[-2:] for level in maps[0]], dtype=maps[0][0].dtype,
                                                       device=maps[0][0].device)
        boxes, scores, groups, keep = zip(*(self._best_of_level(level, priors[level], *of_level)
                                            for level, of_level in enumerate(zip(*maps))))
        found = Candidates(torch.cat(boxes), torch.cat(scores), torch.cat(groups))
        if getattr(self.head.bbox_coder, 'clip_border', True):
            found = found._replace(boxes=clip(found.boxes, image_size))
        large = larger_than(found.boxes, config.get('min_bbox_size', -1))
        return suppress(found, torch.cat(keep) & large, config.nms, config.max_per_img)

    def _best_of_level(self, level: int, priors: Tensor, score_map: Tensor, box_map: Tensor,
                       *factor_map: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, groups, and whether the score is above the threshold, of a level's best ``nms_pre``."""
        config, rpn = self.head.test_cfg, isinstance(self.head, RPNHead)
        logits = _rows(score_map, self.head.cls_out_channels)
        all_scores = logits.sigmoid() if self.head.use_sigmoid_cls else logits.softmax(-1)[:, :-1]
        scores, index = best(all_scores.flatten(), config.get('nms_pre', -1))
        prior = index // self.classes
        groups = torch.full_like(index, level) if rpn else index % self.classes
        boxes = self._decode(level, priors[prior], box_map, prior)
        keep = scores > (-1.0 if rpn else config.get('score_thr', 0))
        if factor_map:
            scores = scores * _rows(factor_map[0], 1)[prior, 0].sigmoid()
        return boxes, scores, groups, keep

    def _decode(self, level: int, priors: Tensor, box_map: Tensor, chosen: Tensor) -> Tensor:
        """(M, 4) boxes of the chosen priors, not yet clipped."""
        coder = self.head.bbox_coder
        if isinstance(self.head, GFLHead):
            # A distribution over distances, in units of the stride (Generalized Focal Loss, section 3.2).
            deltas = _rows(box_map, 4 * (self.head.reg_max + 1))[chosen]
            deltas = self.head.integral(deltas) * self.head.prior_generator.strides[level][0]
            priors = self.head.anchor_center(priors)
        else:
            deltas = _rows(box_map, coder.encode_size)[chosen]
        return get_box_tensor(coder.decode(priors, deltas, max_shape=None))


def best(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The best scores and their indices, in descending order; all of them where the number is not positive.

    Args:
        scores: (P,).
        number: How many at most.
    """
    size = scores.shape[0]
    return scores.topk(size if number <= 0 else torch.sym_min(number, size))


def _rows(level: Tensor, channels: int) -> Tensor:
    """(1, A * C, h, w) -> (h * w * A, C), in the order of the priors."""
    return level[0].permute(1, 2, 0).reshape(-1, channels)
