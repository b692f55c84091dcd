_base_ = ['mmdet::regnet/faster-rcnn_regnetx-3.2GF_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        type='mmdyn.DGRegNet',
        init_cfg=dict(checkpoint='checkpoints/dg-regnetx-3.2GF_in1k.pth', prefix='backbone.')))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
