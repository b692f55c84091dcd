# Each image takes two routes, and gates are taught what closing has cost. Only the last block of each stage with several
# can close, and closes for most images: so both ends of what can be chosen, all open and these five closed, are networks
# that are trained.
_base_ = ['../_base_/robocup_ssl.py']
model = dict(
    backbone=dict(
        type='mmdyn.AIGMobileNetV2',
        target_rates=[1, 1, 0.2, 1, 1, 0.2, 1, 1, 1, 0.2, 1, 1, 0.2, 1, 1, 0.2, 1],
        gate=dict(estimator='taught'),
        open_probability='calibrated',
        train_execution='skip'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.gate.': dict(lr_mult=5.0, decay_mult=0.0)}))
custom_hooks = [
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TaughtGateLoss', loss_weight=0.2)]),
    # Two updates: with one, from the mean of both passes, AP was 0.02 lower after 20 epochs.
    # Strong at the end only: with a weight of 10 from the first iteration, AP was lower with all blocks open, too.
    dict(type='mmdyn.PairedRoutesHook', updates=2, distance_weight=dict(start=1.0, stop=10.0, begin=0.4, end=0.8)),
    dict(type='mmdyn.GateScheduleHook', attribute='closing', start=0.5, stop=1.0, begin=0.0, end=0.2),
    dict(type='mmdyn.GateScheduleHook', attribute='noise', start=2.0, stop=0.0, begin=0.3, end=0.8),
    dict(type='mmdyn.CalibrationHook', num_batches=40),
    dict(type='mmdyn.ChannelsLastHook'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = [_base_.test_evaluator, dict(type='mmdyn.ComputeMetric')]
