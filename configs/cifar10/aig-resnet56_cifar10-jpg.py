_base_ = './resnet56_cifar10-jpg.py'
# Gates on those blocks without which, one at a time, the static network's loss rises least. One budget for all of
# them instead of a rate each: 0.765 of the dense cost, just below ResNet-44.
always, gated = 1, None
model = dict(
    backbone=dict(
        type='mmdyn.AIGResNetCIFAR',
        gate=dict(norm='BN'),
        target_rates=[always] * 5 + [gated] + [always] * 2 + [gated]
        + [always] + [gated] * 8
        + [always] * 2 + [gated] * 2 + [always] + [gated] + [always] * 3))
# Gates start from nothing, the blocks from 200 epochs of training.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.gate.': dict(lr_mult=10, decay_mult=0)}))
custom_hooks = [
    dict(type='mmdyn.ChannelsLastHook'),
    dict(type='mmdyn.GateScheduleHook', attribute='noise', end=0.3),
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.ComputeBudgetLoss', target=0.765, loss_weight=20.0)]),
]
val_evaluator = [*_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
