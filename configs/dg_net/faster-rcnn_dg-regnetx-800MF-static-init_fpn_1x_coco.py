_base_ = ['mmdet::regnet/faster-rcnn_regnetx-3.2GF_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        type='mmdyn.DGRegNet',
        arch='regnetx_800mf',
        node='block',
        init='static',
        init_cfg=dict(checkpoint='open-mmlab://regnetx_800mf')),
    neck=dict(in_channels=[64, 128, 288, 672]))
# One step of a router's bias moves an edge of every image: at the full rate the static weights are lost.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.router.': dict(lr_mult=0.1)}))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
