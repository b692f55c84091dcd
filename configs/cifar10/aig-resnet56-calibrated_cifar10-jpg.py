_base_ = './resnet56_cifar10-jpg.py'
# Gates on those blocks without which, one at a time, the static network's loss rises least.
always, gated = 1, 0.5
model = dict(
    backbone=dict(
        type='mmdyn.AIGResNetCIFAR',
        open_probability='calibrated',
        target_rates=[always] * 5 + [gated] + [always] * 2 + [gated]
        + [always] + [gated] * 8
        + [always] * 2 + [gated] * 2 + [always] + [gated] + [always] * 3))
custom_hooks = [
    dict(type='mmdyn.ChannelsLastHook'),
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=2.0)]),
    # Crops have black borders, which shift the gates' logits; whole pictures do not.
    dict(
        type='mmdyn.CalibrationHook',
        num_batches=100,
        dataloader=dict(
            batch_size=128,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                _base_.train_dataloader.dataset,
                pipeline=_base_.val_dataloader.dataset.pipeline))),
]
val_evaluator = [*_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
