"""Grad-CAM, which puts a hook on a stage, on the dynamic backbone of a detector."""
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

pytestmark = pytest.mark.e2e
pytorch_grad_cam = pytest.importorskip('pytorch_grad_cam', reason='needs grad-cam (pip install grad-cam)')


@pytest.mark.parametrize('backbone', [
    dict(type='mmdyn.AIGResNet', depth=18), dict(type='mmdyn.DGResNet', depth=18, node='block')], ids=['aig', 'dg'])
def test_layer4_of_a_detectors_backbone_gives_a_map(backbone, tiny_coco):
    import mmcv
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules()
    cfg: Config = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg.model.backbone.update(backbone, init_cfg=None, frozen_stages=-1)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for parameter in model.backbone.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    model.eval()
    model.backbone.force_decisions('open' if backbone['type'] == 'mmdyn.AIGResNet' else 'chain')

    class Scores(nn.Module):
        """The detector as Grad-CAM wants it: images -> (N, classes), the best score of each class."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images):
            scores, _ = self.model(images, mode='tensor')
            return torch.stack([level.unflatten(1, (-1, 80)).amax(dim=(1, 3, 4)) for level in scores]).amax(dim=0)

    path = next((tiny_coco / 'val2017').glob('*.jpg'))
    image = torch.from_numpy(mmcv.imresize(mmcv.imread(path), (160, 128))).permute(2, 0, 1)[None].float()
    image = (image - image.mean()) / image.std()
    with pytorch_grad_cam.GradCAM(model=Scores(), target_layers=[model.backbone.layer4]) as cam:
        heat = cam(input_tensor=image, targets=None)
    assert heat.shape == (1, 128, 160) and 0 <= heat.min() < heat.max() <= 1
    assert heat.std() > 0.01
