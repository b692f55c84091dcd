_base_ = ['mmdet::regnet/faster-rcnn_regnetx-3.2GF_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        type='mmdyn.DGRegNet',
        arch='regnetx_800mf',
        init_cfg=dict(checkpoint='checkpoints/dg-regnetx-800MF_in1k.pth', prefix='backbone.')),
    neck=dict(in_channels=[64, 128, 288, 672]))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
