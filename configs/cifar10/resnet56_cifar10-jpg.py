_base_ = '../_base_/cifar10_jpg.py'
model = dict(backbone=dict(depth=56))
load_from = 'checkpoints/cifar-resnet56.pth'
