_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.DGMobileNetV2',
        out_indices=(1, 2, 4, 6),
        frozen_stages=1,
        norm_eval=True,
        node='block',
        init='static',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 320]))
# One step of a router's bias moves an edge of every image: at the full rate the static weights are lost.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.router.': dict(lr_mult=0.1)}))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
