# Twice the epochs: the first half is plain training, and each image takes two routes in the second.
_base_ = ['./retinanet_aig-mobilenet-v2-taught_robocup.py']
train_cfg = dict(max_epochs=20)
custom_hooks = [
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TaughtGateLoss', loss_weight=0.2)]),
    dict(type='mmdyn.PairedRoutesHook', begin=0.5, distance_weight=dict(start=1.0, stop=10.0, begin=0.7, end=0.9)),
    dict(type='mmdyn.GateScheduleHook', attribute='closing', start=0.5, stop=1.0, begin=0.5, end=0.6),
    dict(type='mmdyn.GateScheduleHook', attribute='noise', start=2.0, stop=0.0, begin=0.65, end=0.9),
    dict(type='mmdyn.CalibrationHook', num_batches=40, interval=5),
    dict(type='mmdyn.ChannelsLastHook'),
]
