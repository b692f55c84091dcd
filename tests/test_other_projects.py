"""Configs of mmpretrain and, where it is installed, mmsegmentation train and predict with a dynamic backbone."""
import importlib
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from stock_configs import deciders_that_learn, nested

# A config, the backbone in place of its own, and what that needs said otherwise.
CLASSIFIERS = [
    ('resnet/resnet18_8xb32_in1k.py', 'AIGResNet', {}),
    ('resnet/resnetv1d50_8xb32_in1k.py', 'DGResNet', dict(deep_stem=True, avg_down=True)),
    ('resnext/resnext50-32x4d_8xb32_in1k.py', 'AIGResNeXt', dict(base_width=4)),
    ('regnet/regnetx-400mf_8xb128_in1k.py', 'AIGRegNet', {}),
    ('regnet/regnetx-400mf_8xb128_in1k.py', 'DGRegNet', {}),
    ('mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 'AIGMobileNetV2', dict(out_indices=(7, ))),
    ('mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 'DGMobileNetV2', dict(out_indices=(7, ))),
]
SEGMENTORS = {
    'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py': 'AIGResNet',
    'pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py': 'DGResNet',
}


def stock_model(project: str, name: str) -> dict:
    """The model of a project's own config, without checkpoints and without what needs several GPUs."""
    package = importlib.import_module(project)
    model = Config.fromfile(Path(package.__file__).parent / '.mim' / 'configs' / name).model
    for part in nested(model):
        for key in ('init_cfg', 'pretrained'):
            if key in part:
                part[key] = None
        if part.get('type') == 'SyncBN':
            part['type'] = 'BN'
    return model


@pytest.mark.slow
@pytest.mark.parametrize('name, family, options', CLASSIFIERS, ids=lambda value: value if isinstance(value, str) else '')
def test_mmpretrain(name: str, family: str, options: dict) -> None:
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample
    init_default_scope('mmpretrain')
    config = stock_model('mmpretrain', name)
    config.backbone.update(type=f'mmdyn.{family}', norm_eval=False, **options)
    config.backbone.pop('width_per_group', None)  # base_width, in MMDetection's ResNeXt
    model = MODELS.build(config).train()
    images, samples = torch.randn(2, 3, 64, 64), [DataSample().set_gt_label(i) for i in range(2)]
    model.parse_losses(model(images, samples, mode='loss'))[0].backward()
    deciders = deciders_that_learn(model)
    assert deciders and all(deciders.values()), deciders
    with torch.no_grad():
        predictions = model.eval()(images, samples, mode='predict')
    assert all(prediction.pred_score.isfinite().all() for prediction in predictions)


@pytest.mark.slow
@pytest.mark.parametrize('name', SEGMENTORS)
def test_mmsegmentation(name: str) -> None:
    pytest.importorskip('mmseg', reason='needs mmsegmentation')
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    init_default_scope('mmseg')
    config = stock_model('mmseg', name)
    config.backbone.update(type=f'mmdyn.{SEGMENTORS[name]}', deep_stem=True)  # ResNetV1c, under mmdet's name
    config.backbone.pop('contract_dilation')  # an option of mmseg's ResNet alone
    config.data_preprocessor = None
    model = MODELS.build(config).train()
    images = torch.randn(2, 3, 64, 64)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, 64, 64))),
                             metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64))) for _ in images]
    model.parse_losses(model(images, samples, mode='loss'))[0].backward()
    deciders = deciders_that_learn(model)
    assert deciders and all(deciders.values()), deciders
    with torch.no_grad():
        predictions = model.eval()(images, samples, mode='predict')
    assert predictions[0].pred_sem_seg.data.shape == (1, 64, 64)
