# What every AIG model needs to train: the loss that holds its gates near their target rates, and
# the calibration that meets these rates at evaluation, where gates are not sampled. These are gates as in the paper. On
# photographs (configs/robocup_ssl) they lost 0.075 AP to a static network of as many epochs; gates taught on paired routes
# were 0.033 above it at 75 % of its cost, for twice its training compute. None of this was measured on COCO or ImageNet,
# so the configs for these keep to the paper.
custom_hooks = [
    dict(
        type='mmdyn.DynamicModelHook',
        losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=1.0)]),
    dict(type='mmdyn.CalibrationHook'),
]
