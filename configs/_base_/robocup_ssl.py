"""RetinaNet on MobileNetV2-FPN for robocup_ssl: 681 photographs to train on, 250 to validate, 224 x 224, 3 classes."""
import random

_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['mmdyn'])
data_root = 'data/robocup_ssl/'
classes = ('robot', 'ball', 'goal')
image_size = (224, 224)
channels = 96

# 100 training images are set aside, once and for all: whatever is chosen is chosen on them.
_order = list(range(681))
random.Random(20240).shuffle(_order)
tune_indices, fit_indices = sorted(_order[:100]), sorted(_order[100:])

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth', prefix='backbone.')),
    neck=dict(
        in_channels=[24, 32, 96, 320], out_channels=channels, start_level=1, add_extra_convs='on_output', num_outs=5),
    bbox_head=dict(
        num_classes=len(classes), in_channels=channels, feat_channels=channels, stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')),
]
train_dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=False, min_size=1))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(train_dataset, indices=fit_indices, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=10,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(train_dataset, indices=tune_indices, test_mode=True, pipeline=test_pipeline))
val_evaluator = dict(type='CocoMetric', metric='bbox')  # without a file: of the images that it is given
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        train_dataset,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline))
test_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val2017.json', metric='bbox')

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(_delete_=True, type='mmdyn.AtomicCheckpointHook', interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
