_base_ = ['mmdet::regnet/faster-rcnn_regnetx-3.2GF_fpn_1x_coco.py', '../_base_/aig.py']
model = dict(backbone=dict(type='mmdyn.AIGRegNet', target_rates=0.6, open_probability='calibrated'))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
# Gates are sampled: each rank draws for its own images.
randomness = dict(seed=None, diff_rank_seed=True)
