# Gates stand in the second block of each stage; the first, which changes the shape, always runs. So both ends of what
# can be chosen are whole networks. All gates begin open, and close over the first third of the training.
_base_ = ['./faster-rcnn_r18_fpn_shapes.py', '../_base_/aig.py']
model = dict(
    backbone=dict(type='mmdyn.AIGResNet', target_rates=[1, 0.4] * 4, open_probability='calibrated'))
custom_hooks = _base_.custom_hooks + [
    dict(type='mmdyn.GateScheduleHook', attribute='closing', start=0.0, stop=1.0, begin=0.0, end=0.3)]
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
