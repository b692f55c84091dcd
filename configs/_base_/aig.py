# What every AIG model needs to train: the loss that holds its gates near their target rates, and
# the calibration that meets these rates at evaluation, where gates are not sampled.
custom_hooks = [
    dict(
        type='mmdyn.DynamicModelHook',
        losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=1.0)]),
    dict(type='mmdyn.CalibrationHook'),
]
