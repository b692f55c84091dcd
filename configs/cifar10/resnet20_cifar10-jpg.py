_base_ = '../_base_/cifar10_jpg.py'
model = dict(backbone=dict(depth=20))
load_from = 'checkpoints/cifar-resnet20.pth'
