"""Gates that have seen photographs before they see the detector's: ImageNet weights, gates trained on Imagenette.

Imagenette (data/imagenette_144/{train,val}/<class>/*.jpg): 9,469 photographs of ten classes of ImageNet to train on,
3,925 to validate.
"""
_base_ = ['mmpretrain::_base_/default_runtime.py', '../_base_/aig.py']
data_root = 'data/imagenette_144'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmdyn.AIGMobileNetV2',
        out_indices=(7, ),
        norm_eval=True,
        target_rates=0.5,
        open_probability='calibrated',
        train_execution='skip',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth', prefix='backbone.')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=1280))
data_preprocessor = dict(num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=128),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=128), dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='mmdyn.ComputeMetric')]
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
# Only what starts afresh learns fast. At 0.01 for all, without clipping, the loss stays at that of guessing.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'.gate.': dict(lr_mult=10.0), 'head': dict(lr_mult=10.0)}),
    clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook', max_keep_ckpts=1))
randomness = dict(seed=0)
