_base_ = './resnet56_cifar10-jpg.py'
# The gates of stage 3 open while they are in doubt about the class. Three blocks without which the static network's
# loss rises least are left out, so that hard images, too, cost less than with ResNet-56. open_probability matters at
# evaluation alone, and sets the cost: just below ResNet-44.
always, left_out, gated = 1, 0, None
model = dict(
    backbone=dict(
        type='mmdyn.AIGResNetCIFAR',
        gate=dict(num_classes=10),
        open_probability=0.02,
        target_rates=[always] * 5 + [left_out] + [always] * 3
        + [always] * 5 + [left_out] + [always] * 2 + [left_out]
        + [always] + [gated] * 8))
custom_hooks = [
    dict(type='mmdyn.ChannelsLastHook'),
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.GateClassLoss', loss_weight=0.8)]),
]
val_evaluator = [*_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
