_base_ = '../_base_/cifar10_jpg.py'
model = dict(backbone=dict(depth=44))
load_from = 'checkpoints/cifar-resnet44.pth'
