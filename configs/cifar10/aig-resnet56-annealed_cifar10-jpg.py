# The other remedy for the targets of the calibrated config: the same gates, whose noise goes to 0.
_base_ = './aig-resnet56_cifar10-jpg.py'
always, gated = 1, 0.5
model = dict(
    backbone=dict(
        target_rates=[always] * 5 + [gated] + [always] * 2 + [gated]
        + [always] + [gated] * 8
        + [always] * 2 + [gated] * 2 + [always] + [gated] + [always] * 3))
custom_hooks = [
    *_base_.custom_hooks[:2],
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=2.0)]),
]
