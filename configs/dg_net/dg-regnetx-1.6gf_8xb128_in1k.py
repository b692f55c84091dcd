# Batch 128 a GPU, as the recipe of RegNet that this starts from; it recomputes the norms' statistics after each epoch.
_base_ = 'mmpretrain::regnet/regnetx-1.6gf_8xb128_in1k.py'
model = dict(backbone=dict(type='mmdyn.DGRegNet', out_indices=(3, ), norm_eval=False))
custom_hooks = [*_base_.custom_hooks, dict(type='mmdyn.DynamicModelHook')]
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
