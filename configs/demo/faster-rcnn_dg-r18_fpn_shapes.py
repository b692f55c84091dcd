_base_ = ['./faster-rcnn_r18_fpn_shapes.py', '../_base_/dg.py']
model = dict(backbone=dict(type='mmdyn.DGResNet'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
