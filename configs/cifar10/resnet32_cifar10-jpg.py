_base_ = '../_base_/cifar10_jpg.py'
model = dict(backbone=dict(depth=32))
load_from = 'checkpoints/cifar-resnet32.pth'
