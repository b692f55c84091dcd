_base_ = ['./resnet56_cifar10-jpg.py']
model = dict(backbone=dict(type='mmdyn.DGResNetCIFAR', node='block'))
# One step of a router's bias moves an edge of every image: at the full rate the static weights are lost (README).
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.router.': dict(lr_mult=0.1)}))
custom_hooks = [dict(type='mmdyn.ChannelsLastHook'), dict(type='mmdyn.DynamicModelHook')]
val_evaluator = [*_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
