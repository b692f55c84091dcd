_base_ = ['./resnet56_cifar10-jpg.py']
model = dict(backbone=dict(type='mmdyn.DGResNetCIFAR', node='branch'))
custom_hooks = [dict(type='mmdyn.ChannelsLastHook'), dict(type='mmdyn.DynamicModelHook')]
val_evaluator = [*_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
