# A Faster R-CNN that learns from scratch in a few minutes on two CPU cores, for the data set that
# `python tools/misc/make_shapes_dataset.py data/shapes` writes.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/default_runtime.py',
]
classes = ('circle', 'square', 'triangle', 'star', 'cross')
data_root = 'data/shapes/'
data_source = 'python tools/misc/make_shapes_dataset.py data/shapes'  # what is said where they are not there
image_size = (128, 128)
max_epochs = 10

# The shapes are 10 to 60 pixels wide where COCO's objects are up to 500: smaller anchors, and one level fewer.
strides = [4, 8, 16, 32]
channels = 64
model = dict(
    backbone=dict(
        depth=18,
        # Half of the usual width, for three quarters of the time; what it costs AIG: configs/demo/README.md.
        base_channels=32,
        # Nothing is pretrained: every layer and every norm has to learn.
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=channels, num_outs=len(strides), norm_cfg=dict(type='BN')),
    rpn_head=dict(
        in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[5], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, featmap_strides=strides, finest_scale=20),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=len(classes))),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=50)))

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
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# Images this small load in a millisecond: loader processes would only take the cores from the training.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root, metainfo=dict(classes=classes), filter_cfg=dict(min_size=1), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        end=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(type='mmdyn.AtomicCheckpointHook', max_keep_ckpts=1),
    visualization=dict(draw=True, interval=1, score_thr=0.5))
auto_scale_lr = dict(enable=False, base_batch_size=4)
