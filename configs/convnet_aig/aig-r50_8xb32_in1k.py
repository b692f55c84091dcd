# The paper's schedule is mmpretrain's own: 100 epochs, batch 256, lr 0.1 divided by 10 at 30, 60 and 90.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py', '../_base_/aig.py']
model = dict(
    backbone=dict(
        type='mmdyn.AIGResNet',
        norm_eval=False,
        target_rates=dict(preset='paper', t=0.6),
        open_probability='calibrated'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
# Gates are sampled: each rank draws for its own images.
randomness = dict(seed=None, diff_rank_seed=True)
