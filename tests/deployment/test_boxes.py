"""Boxes found with operations that ONNX has are those of MMDetection's own prediction; nothing is exported here."""
import pytest
import torch
from mmdyn.deployment.detection_match import match
from mmdyn.deployment.exportable_model import ExportableModel
from mmdyn.deployment.onnx_comparison import reference
from mmdyn.engine import InputError

from small_models import HEADS, RESNET, TOOD, build, images, one_stage, two_stage

STATIC = dict(type='ResNet', **RESNET)


def compare(config: dict, number: int = 5) -> int:
    """Number of boxes that are the same."""
    model = build(config)
    module = ExportableModel(model, size=(64, 96))
    boxes = 0
    for image in images(number):
        theirs, _ = reference(model, module, image)
        with torch.no_grad():
            ours = module(image)
        assert len(ours['scores']) == len(theirs['scores'])
        match({name: ours[name] for name in theirs}, theirs, module.box_config)
        assert (ours['scores'].diff() <= 0).all()  # the best first
        boxes += len(theirs['scores'])
    return boxes


@pytest.mark.parametrize('head', HEADS)
def test_one_stage(head):
    assert compare(one_stage(head, STATIC)) > 20


@pytest.mark.parametrize('options', [dict(), dict(reg_class_agnostic=True)])
def test_two_stage(options):
    assert compare(two_stage(STATIC, **options)) > 10


def test_boxes_of_mask_rcnn():
    config = two_stage(STATIC)
    config.update(type='MaskRCNN')
    config['roi_head'].update(
        mask_roi_extractor=dict(config['roi_head']['bbox_roi_extractor']),
        mask_head=dict(type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3))
    config['test_cfg']['rcnn'].update(mask_thr_binary=0.5)
    assert compare(config) > 10


def test_options_of_test_cfg():
    config = one_stage('RetinaNet', STATIC)
    config['test_cfg'].update(nms=dict(type='nms', iou_threshold=0.3, class_agnostic=True), max_per_img=7, nms_pre=20,
                              min_bbox_size=12)
    assert 30 < compare(config) <= 35
    config['test_cfg'].update(score_thr=1.0)
    assert compare(config) == 0


def test_a_map_smaller_than_the_number_of_candidates():
    config = one_stage('RetinaNet', STATIC)
    config['test_cfg'].update(nms_pre=10**6)
    assert compare(config) > 50


@pytest.mark.parametrize('config, message', [
    (dict(one_stage('RetinaNet', STATIC), test_cfg=dict(nms=dict(type='soft_nms'), max_per_img=5)),
     "model.test_cfg.nms: expected type 'nms', the one that ONNX has, got 'soft_nms'.*--raw"),
    (dict(one_stage('RetinaNet', STATIC), bbox_head=TOOD),
     'TOODHead turns its maps into boxes in a way of its own.*--raw'),
])
def test_a_head_that_cannot_be_exported_is_named(config, message):
    with pytest.raises(InputError, match=message):
        ExportableModel(build(config), size=(64, 96))


def test_maps_of_such_a_head_can_be_had():
    model = build(dict(one_stage('RetinaNet', STATIC), test_cfg=dict(nms=dict(type='soft_nms'), max_per_img=5)))
    module = ExportableModel(model, kind='maps', size=(64, 96))
    image, = images(1)
    outputs, _ = reference(model, module, image)
    assert list(outputs) == ['cls_score_0', 'cls_score_1', 'bbox_pred_0', 'bbox_pred_1']
    with torch.no_grad():
        assert all(torch.equal(module(image)[name], value) for name, value in outputs.items())


def test_a_second_stage_that_cannot_be_exported_is_named():
    config = two_stage(STATIC)
    config['roi_head'].update(type='DoubleHeadRoIHead', reg_roi_scale_factor=1.3)
    config['roi_head']['bbox_head'] = dict(
        type='DoubleConvFCBBoxHead', num_convs=1, num_fcs=1, in_channels=16, conv_out_channels=16, fc_out_channels=32,
        num_classes=3)
    with pytest.raises(InputError, match='DoubleHeadRoIHead finds boxes in a way of its own.*--raw'):
        ExportableModel(build(config), size=(64, 96))
