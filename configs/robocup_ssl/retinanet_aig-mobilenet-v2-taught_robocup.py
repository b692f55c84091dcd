# Each image takes two routes, and gates, one for the rest of a stage, are taught what closing has cost.
_base_ = ['../_base_/robocup_ssl.py']
model = dict(
    backbone=dict(
        type='mmdyn.AIGMobileNetV2',
        target_rates=dict(preset='suffix', keep=1, t=0.5),
        gate=dict(estimator='taught'),
        open_probability='calibrated',
        train_execution='skip'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.gate.': dict(lr_mult=5.0, decay_mult=0.0)}))
custom_hooks = [
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TaughtGateLoss', loss_weight=0.2)]),
    dict(
        type='mmdyn.PairedRoutesHook',
        distances=[dict(module='neck', kind='maps'), dict(module='bbox_head', kind='scores')]),
    dict(type='mmdyn.GateScheduleHook', attribute='closing', start=0.4, stop=1.0, begin=0.0, end=0.4),
    dict(type='mmdyn.GateScheduleHook', attribute='noise', start=2.0, stop=0.0, begin=0.3, end=0.8),
    dict(type='mmdyn.CalibrationHook', num_batches=40),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = [_base_.test_evaluator, dict(type='mmdyn.ComputeMetric')]
