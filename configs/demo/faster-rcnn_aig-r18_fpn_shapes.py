_base_ = ['./faster-rcnn_r18_fpn_shapes.py', '../_base_/aig.py']
model = dict(
    backbone=dict(type='mmdyn.AIGResNet', target_rates=0.7, open_probability='calibrated'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
