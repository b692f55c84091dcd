_base_ = ['mmpretrain::resnext/resnext50-32x4d_8xb32_in1k.py', '../_base_/dg.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.DGResNeXt',
        depth=50,
        groups=32,
        base_width=4,
        out_indices=(3, ),
        norm_eval=False))
val_evaluator = [_base_.val_evaluator, dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))
