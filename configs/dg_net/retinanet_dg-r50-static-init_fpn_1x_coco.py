_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/dg.py']
model = dict(backbone=dict(type='mmdyn.DGResNet', node='block', init='static'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
