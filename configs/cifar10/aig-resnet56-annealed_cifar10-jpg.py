# The same gates with a target rate each instead of one budget. Their noise goes to 0, as there.
_base_ = './aig-resnet56_cifar10-jpg.py'
model = dict(backbone=dict(target_rates=[0.5 if rate is None else rate for rate in _base_.model.backbone.target_rates]))
custom_hooks = [
    *_base_.custom_hooks[:2],
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=2.0)]),
]
