# Gates as in the paper: one a block, held near one rate each, and calibrated.
_base_ = ['../_base_/robocup_ssl.py', '../_base_/aig.py']
model = dict(backbone=dict(type='mmdyn.AIGMobileNetV2', target_rates=0.5, open_probability='calibrated'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = [_base_.test_evaluator, dict(type='mmdyn.ComputeMetric')]
