# The other remedy for the targets of the annealed config: its gates are sampled to the end, and their thresholds calibrated.
_base_ = './aig-resnet56-annealed_cifar10-jpg.py'
model = dict(backbone=dict(open_probability='calibrated'))
custom_hooks = [
    _base_.custom_hooks[0],
    _base_.custom_hooks[2],
    # On whole pictures, as evaluation sees them; training sees crops.
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
