"""Small models for the tests of deployment: an export takes seconds to minutes, by the number of blocks."""
import copy

import torch
from mmdet.registry import MODELS
from mmdyn.layers.router import Router, edge_logit
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import nn

RESNET = dict(depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
STRIDES = [4, 8]
NECK = dict(type='FPN', in_channels=[4, 8], out_channels=16, num_outs=2)
NMS = dict(type='nms', iou_threshold=0.5)
ANCHORS = dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=2, ratios=[0.5, 1.0], strides=STRIDES)
SQUARES = dict(type='AnchorGenerator', octave_base_scale=8, scales_per_octave=1, ratios=[1.0], strides=STRIDES)
DELTAS = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
LAYERS = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
GROUPS = dict(type='GN', num_groups=4)

HEADS = dict(
    RetinaNet=dict(type='RetinaHead', anchor_generator=ANCHORS, bbox_coder=DELTAS, **LAYERS),
    FCOS=dict(type='FCOSHead', strides=STRIDES, regress_ranges=((-1, 16), (16, 1e8)), norm_cfg=GROUPS,
              norm_on_bbox=True, centerness_on_reg=True, **LAYERS),
    ATSS=dict(type='ATSSHead', anchor_generator=SQUARES, bbox_coder=DELTAS, norm_cfg=GROUPS, **LAYERS),
    GFL=dict(type='GFLHead', anchor_generator=SQUARES, reg_max=7, norm_cfg=GROUPS, **LAYERS),
    SSDLite=dict(
        type='SSDHead', num_classes=3, in_channels=(16, 16), use_depthwise=True, norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU6'), bbox_coder=DELTAS,
        anchor_generator=dict(type='SSDAnchorGenerator', scale_major=False, strides=STRIDES, ratios=[[2, 3], [2, 3]],
                              min_sizes=[16, 32], max_sizes=[32, 48])),
    FSAF=dict(type='FSAFHead', anchor_generator=SQUARES, bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
              reg_decoded_bbox=True, **LAYERS),
    RTMDet=dict(
        type='RTMDetHead', anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=STRIDES),
        bbox_coder=dict(type='DistancePointBBoxCoder'), with_objectness=False, norm_cfg=dict(type='BN'), **LAYERS),
)
# Its boxes are found in a way of its own.
TOOD = dict(type='TOODHead', anchor_type='anchor_free', num_classes=3, in_channels=16, feat_channels=32,
            stacked_convs=1, anchor_generator=SQUARES)
PREPROCESSOR = dict(type='DetDataPreprocessor', mean=[100.0, 120.0, 140.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=True)


def one_stage(head: str, backbone: dict, **head_options) -> dict:
    return dict(
        type='SingleStageDetector', backbone=backbone, neck=NECK, bbox_head=dict(HEADS[head], **head_options),
        train_cfg=None, data_preprocessor=PREPROCESSOR,
        test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.05, nms=NMS, max_per_img=30))


def two_stage(backbone: dict, **box_head_options) -> dict:
    return dict(
        type='FasterRCNN', backbone=backbone, neck=NECK, data_preprocessor=PREPROCESSOR,
        rpn_head=dict(
            type='RPNHead', in_channels=16, feat_channels=16, bbox_coder=DELTAS,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=STRIDES)),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=16, featmap_strides=STRIDES, finest_scale=16),
            bbox_head=dict(
                type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, num_classes=3, bbox_coder=DELTAS,
                **box_head_options)),
        train_cfg=None,
        test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=40, nms=dict(NMS, iou_threshold=0.7), min_bbox_size=0),
                      rcnn=dict(score_thr=0.05, nms=NMS, max_per_img=20)))


class WithBackbone(nn.Module):
    """A model of neither MMDetection nor MMPretrain."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def build(config: dict, seed: int = 0) -> nn.Module:
    """A model whose decisions differ from image to image, and whose scores are not all alike."""
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(copy.deepcopy(config)))
    for name, module in model.named_modules():
        if not name.startswith('backbone') and isinstance(module, (nn.Conv2d, nn.Linear)):
            scores = 'cls' in name.rpartition('.')[2]
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= 0.3 if scores else 1.0  # not all of them about 0 or 1
            if module.bias is not None:
                nn.init.normal_(module.bias, -1.0 if scores else 0.0)
    vary(model.backbone)
    return model.eval()


@torch.no_grad()
def vary(backbone: nn.Module) -> None:
    """Makes gates and routers random, and each decide one way for half of `images` and the other way for the rest."""
    backbone.eval()
    for decider in getattr(backbone, 'deciders', list)():
        for parameter in decider.parameters():
            parameter.copy_(torch.randn_like(parameter))  # also constants, of routers that are nothing else
    for decider in getattr(backbone, 'deciders', list)():
        said: list[torch.Tensor] = []
        handle = decider.register_forward_hook(lambda module, inputs, output, said=said: said.append(output))
        for image in images(20)[:-1]:
            backbone(image)
        handle.remove()
        if said and isinstance(decider, Router) and backbone.threshold > 0:
            limit = edge_logit(backbone.threshold, backbone.edge_scale)
            decider.bias += limit - torch.cat(said).div(decider.scale).logit().median(dim=0).values
        elif said and hasattr(decider, 'fc2'):
            decider.fc2.bias[0] += torch.cat([output.logit for output in said]).median()


def with_backbone(backbone: nn.Module) -> nn.Module:
    vary(backbone)
    return WithBackbone(backbone).eval()


def images(number: int, size: tuple[int, int] = (64, 96)) -> list[torch.Tensor]:
    """(1, 3, H, W) noise of different colour and contrast; the last is padded."""
    noise = [torch.randn(1, 3, *size) * (0.5 + torch.rand(1)) + torch.randn(1, 3, 1, 1) for _ in range(number)]
    noise[-1][..., size[1] - 26:] = 0
    noise[-1][..., size[0] - 14:, :] = 0
    return noise
