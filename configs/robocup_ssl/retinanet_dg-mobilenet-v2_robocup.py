_base_ = ['../_base_/robocup_ssl.py', '../_base_/dg.py']
model = dict(backbone=dict(type='mmdyn.DGMobileNetV2', node='branch', init='static'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.router.': dict(lr_mult=0.1)}))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = [_base_.test_evaluator, dict(type='mmdyn.ComputeMetric')]
