_base_ = './aig-resnet56_cifar10-jpg.py'
custom_hooks = [
    *_base_.custom_hooks[:2],
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.ComputeBudgetLoss', target=0.65, loss_weight=20.0)]),
]
