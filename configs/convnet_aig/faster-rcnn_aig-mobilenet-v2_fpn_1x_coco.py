_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/aig.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.AIGMobileNetV2',
        out_indices=(1, 2, 4, 6),
        frozen_stages=1,
        norm_eval=True,
        # Of the ten blocks with a shortcut; the other seven have no gate.
        target_rates=0.6,
        open_probability='calibrated',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 320]))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
# Gates are sampled: each rank draws for its own images.
randomness = dict(seed=None, diff_rank_seed=True)
