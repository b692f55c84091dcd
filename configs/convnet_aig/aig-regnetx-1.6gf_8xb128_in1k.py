# Batch 128 a GPU, as the recipe of RegNet that this starts from; it recomputes the norms' statistics after each epoch,
# before the gates are calibrated.
_base_ = 'mmpretrain::regnet/regnetx-1.6gf_8xb128_in1k.py'
model = dict(
    backbone=dict(
        type='mmdyn.AIGRegNet',
        out_indices=(3, ),
        norm_eval=False,
        target_rates=0.6,
        open_probability='calibrated'))
# Two files with the same key cannot both be a _base_: those of ../_base_/aig.py are said again.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', loss_weight=1.0)]),
    dict(type='mmdyn.CalibrationHook'),
]
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
# Gates are sampled: each rank draws for its own images.
randomness = dict(seed=None, diff_rank_seed=True)
