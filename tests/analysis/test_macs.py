"""The size that the cost of an image is told for."""
from mmengine.config import Config

from mmdyn.analysis.macs import evaluation_shape


def test_default_shape():
    def shape(*pipeline):
        return evaluation_shape(Config(dict(val_dataloader=dict(dataset=dict(pipeline=list(pipeline))))))

    assert shape(dict(type='Resize', scale=(1333, 800)), dict(type='PackDetInputs')) == (800, 1344)
    assert shape(dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)) == (224, 224)
    assert shape() == (224, 224)
