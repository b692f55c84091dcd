"""Grad-CAM, which puts a hook on a stage, on the dynamic backbone of a detector."""
from typing import Optional

import mmcv
import numpy as np
import pytest
import torch
from mmengine.hub import get_config
from torch import Tensor, nn

pytestmark = pytest.mark.e2e
pytorch_grad_cam = pytest.importorskip('pytorch_grad_cam', reason='needs grad-cam (pip install grad-cam)')


BACKBONES = {
    'static': (dict(), None),
    'aig': (dict(type='mmdyn.AIGResNet'), 'open'),
    'dg': (dict(type='mmdyn.DGResNet', node='block'), 'chain'),
}


class Scores(nn.Module):
    """A detector as Grad-CAM wants it: images -> (N, classes), the best score of each class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        scores, _ = self.model(images, mode='tensor')
        return torch.stack([level.unflatten(1, (-1, 80)).amax(dim=(1, 3, 4)) for level in scores]).amax(dim=0)


def build(name: str, weights: Optional[dict[str, Tensor]] = None) -> nn.Module:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules()
    options, decisions = BACKBONES[name]
    cfg = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg.model.backbone.update(options, init_cfg=None, frozen_stages=-1)
    model = MODELS.build(cfg.model)
    if weights is None:
        model.init_weights()
        for parameter in model.backbone.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, 0.5, 1.0)
    else:
        model.load_state_dict(weights, strict=False)
        model.backbone.force_decisions(decisions)
    return model.eval()


def heat_of(model: nn.Module, image: Tensor) -> np.ndarray:
    with pytorch_grad_cam.GradCAM(model=Scores(model), target_layers=[model.backbone.layer4]) as cam:
        return cam(input_tensor=image, targets=None)


def test_layer4_of_a_detectors_backbone_gives_the_static_networks_map(tiny_coco):
    path = next((tiny_coco / 'val2017').glob('*.jpg'))
    image = torch.from_numpy(mmcv.imresize(mmcv.imread(path), (160, 128))).permute(2, 0, 1)[None].float()
    image = (image - image.mean()) / image.std()
    static = build('static')
    heat = heat_of(static, image)
    assert heat.shape == (1, 128, 160) and heat.std() > 0.01
    for name in ('aig', 'dg'):
        np.testing.assert_allclose(heat_of(build(name, static.state_dict()), image), heat, atol=1e-5)
