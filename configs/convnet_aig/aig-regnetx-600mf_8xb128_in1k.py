_base_ = './aig-regnetx-1.6gf_8xb128_in1k.py'
model = dict(backbone=dict(arch='regnetx_600mf'), head=dict(in_channels=528))
