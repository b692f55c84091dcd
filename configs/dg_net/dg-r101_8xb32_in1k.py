_base_ = './dg-r50_8xb32_in1k.py'
model = dict(backbone=dict(depth=101))
