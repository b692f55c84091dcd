# CIFAR-10 as a folder of images a class (data/cifar10_jpg/{train,test}/<class>/*.jpg), and the one
# recipe by which every CIFAR network here is fine-tuned from a converted checkpoint.
_base_ = 'mmpretrain::_base_/default_runtime.py'
data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
load = dict(type='LoadImageFromFile', imdecode_backend='cv2')
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/cifar10_jpg',
        data_prefix='train',
        pipeline=[
            load,
            dict(type='RandomCrop', crop_size=32, padding=4),
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
        pipeline=[load, dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1, ))]
test_evaluator = val_evaluator
