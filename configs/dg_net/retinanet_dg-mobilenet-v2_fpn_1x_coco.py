_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.DGMobileNetV2',
        out_indices=(1, 2, 4, 6),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dg-mobilenet-v2_in1k.pth', prefix='backbone.')),
    neck=dict(in_channels=[24, 32, 96, 320]))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
