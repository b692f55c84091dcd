_base_ = ['./faster-rcnn_r18_fpn_shapes.py', '../_base_/dg.py']
model = dict(backbone=dict(type='mmdyn.DGResNet'))
