_base_ = ['mmdet::regnet/retinanet_regnetx-800MF_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        type='mmdyn.DGRegNet',
        init_cfg=dict(checkpoint='checkpoints/dg-regnetx-800MF_in1k.pth', prefix='backbone.')))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
