_base_ = ['mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', '../_base_/aig.py']
model = dict(
    backbone=dict(
        type='mmdyn.AIGMobileNetV2',
        out_indices=(7, ),
        norm_eval=False,
        # Of the ten blocks with a shortcut; the other seven have no gate.
        target_rates=0.6,
        open_probability='calibrated'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
# Gates are sampled: each rank draws for its own images.
randomness = dict(seed=None, diff_rank_seed=True)
