"""DG-ResNeXt: chain = static, every parameter gets a gradient."""
import pytest
import torch
from dg_cases import assert_equal, assert_every_parameter_has_a_gradient, static_and_dynamic
from mmdet.models.backbones import ResNeXt
from mmdyn.backbones.dg_resnext import DGResNeXt


@pytest.mark.parametrize('training', [True, False])
def test_the_chain_is_the_static_network_to_the_last_bit(training):
    static, backbone = static_and_dynamic(
        ResNeXt, DGResNeXt, dict(node='block'), depth=50, groups=32, base_width=4)
    static.train(training), backbone.train(training)
    backbone.force_decisions('chain')
    images = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(training):
        assert_equal(backbone(images), static(images))


def test_depth_101_trains():
    backbone = DGResNeXt(depth=101, groups=32, base_width=4).train()
    assert_every_parameter_has_a_gradient(backbone, torch.randn(2, 3, 64, 64))
