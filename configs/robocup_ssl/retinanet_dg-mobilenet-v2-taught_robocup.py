# DG whose nodes have gates, trained as the AIG of the base: two routes, gates taught what closing has cost. Here, too,
# only the last block of each stage with several can be left out.
_base_ = ['./retinanet_aig-mobilenet-v2-taught_robocup.py']
model = dict(
    backbone=dict(
        type='mmdyn.DGMobileNetV2',
        node='branch',
        init='static',
        node_gates=True,
        target_rates=[1, 0.2, 1, 1, 0.2, 1, 1, 1, 0.2, 1, 1, 0.2, 1, 1, 0.2]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.router.': dict(lr_mult=0.1)}))
