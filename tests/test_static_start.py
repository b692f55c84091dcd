"""A dynamic detector that starts from a static one predicts exactly what the static one does."""
import copy

import mmcv
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

DYNAMIC = {
    'DGResNet': ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', dict(node='block', init='static')),
    'AIGResNet': ('retinanet/retinanet_r50_fpn_1x_coco.py', {}),
    'DGRegNet': ('regnet/retinanet_regnetx-800MF_fpn_1x_coco.py', dict(node='block', init='static')),
}


def detector(config: str, **backbone) -> torch.nn.Module:
    init_default_scope('mmdet')
    model = copy.deepcopy(get_config(f'mmdet::{config}').model)
    model.backbone.update(init_cfg=None, **backbone)
    if 'depth' in model.backbone:
        model.backbone.update(depth=18)
        model.neck.in_channels = [64, 128, 256, 512]
    return MODELS.build(model).eval()


def photographs(folder, count: int) -> list[torch.Tensor]:
    paths = sorted((folder / 'val2017').glob('*.jpg'))[:count]
    return [torch.from_numpy(mmcv.imrescale(mmcv.imread(str(path)), (160, 160))).permute(2, 0, 1)
            for path in paths]


@pytest.mark.e2e
@pytest.mark.parametrize('name', DYNAMIC)
def test_same_detections_to_the_last_bit(name, tiny_coco):
    config, options = DYNAMIC[name]
    static = detector(config)
    static.init_weights()
    # Enough confidence for detections, and residual branches that are not zero.
    with torch.no_grad():
        for key, parameter in static.named_parameters():
            if 'fc_cls' in key or 'retina_cls' in key:
                parameter.normal_(std=0.02)
            elif key.startswith('backbone') and parameter.dim() == 1:
                parameter.uniform_(0.2, 0.6)
    dynamic = detector(config, type=f'mmdyn.{name}', **options)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert missing and not unexpected
    if name == 'AIGResNet':
        dynamic.backbone.force_decisions('open')
    images = photographs(tiny_coco, 3)
    assert len(images) == 3
    results = []
    for model in (static, dynamic):
        samples = [DetDataSample(metainfo=dict(img_shape=tuple(i.shape[1:]), scale_factor=(1.0, 1.0),
                                               ori_shape=tuple(i.shape[1:])),
                                 gt_instances=InstanceData()) for i in images]
        with torch.no_grad():
            results.append(model.test_step(dict(inputs=list(images), data_samples=samples)))
    found = 0
    for theirs, ours in zip(*results):
        theirs, ours = theirs.pred_instances, ours.pred_instances
        found += len(theirs)
        for field in ('bboxes', 'scores', 'labels'):
            assert torch.equal(theirs[field], ours[field])
    assert found > 0
