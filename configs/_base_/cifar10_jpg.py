# CIFAR-10 as JPEG files (data/cifar10_jpg/{train,test}/<class>/*.jpg), and the one recipe by which
# every CIFAR network here is fine-tuned from the checkpoint of a static network.
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNetCIFAR', depth=56),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64))
data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/cifar10_jpg',
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            # Padded by reflection: black borders shift the logits of gates, so that whole pictures would take other
            # routes than crops. (With `padding=4`, mmpretrain's RandomCrop ignores its padding_mode.)
            dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
            dict(type='RandomCrop', crop_size=32),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root='data/cifar10_jpg',
        data_prefix='test',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1, ))]
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
# bfloat16 in training only; evaluation is in float32.
optim_wrapper = dict(
    type='mmdyn.AutocastOptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook', max_keep_ckpts=2))
custom_hooks = [dict(type='mmdyn.ChannelsLastHook')]
randomness = dict(seed=0)
