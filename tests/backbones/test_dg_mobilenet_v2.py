"""DG-MobileNetV2: static as a chain of blocks, and as branches with every edge at 1."""
import pytest
import torch
from dg_cases import (assert_close, assert_equal, assert_every_parameter_has_a_gradient,
                      randomize_routers, static_and_dynamic)
from mmdet.models.backbones import MobileNetV2
from mmdyn.backbones.dg_mobilenet_v2 import DGMobileNetV2
from mmdyn.functional.graph import complete_adjacency

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('widen_factor', [0.25, 1.0])
def test_the_chain_of_blocks_is_the_static_network_to_the_last_bit(training, widen_factor):
    static, backbone = static_and_dynamic(
        MobileNetV2, DGMobileNetV2, dict(node='block'), widen_factor=widen_factor)
    static.train(training), backbone.train(training)
    backbone.force_decisions('chain')
    with torch.set_grad_enabled(training):
        assert_equal(backbone(IMAGES), static(IMAGES))


@pytest.mark.parametrize('forced', ['complete', None])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_branches_with_every_edge_at_1_are_the_static_network(forced, training, dtype, tolerance):
    static, backbone = static_and_dynamic(MobileNetV2, DGMobileNetV2, norm_eval=not training)
    static.train(training)
    backbone.train(training)
    static.to(dtype), backbone.to(dtype)
    backbone.force_decisions(forced)
    with torch.set_grad_enabled(training):
        assert_close(backbone(IMAGES.to(dtype)), static(IMAGES.to(dtype)), tolerance)
    adjacency = backbone.decisions.adjacency['layer3']
    assert torch.equal(adjacency, complete_adjacency(3).to(adjacency).expand(2, 4, 4))


def test_static_start_of_branches_with_another_scale():
    static, backbone = static_and_dynamic(
        MobileNetV2, DGMobileNetV2, dict(init='static', edge_scale=1.5))
    static.eval(), backbone.eval()
    assert_close(backbone(IMAGES), static(IMAGES), 1e-5)


@pytest.mark.parametrize('threshold', [0.2, 1.5])
@pytest.mark.parametrize('node', ['branch', 'block'])
def test_every_parameter_gets_a_gradient(threshold, node):
    backbone = DGMobileNetV2(threshold=threshold, node=node, init='complete').train()
    randomize_routers(backbone)
    assert_every_parameter_has_a_gradient(backbone, IMAGES)
    # Stages of one block, and the last convolution, stay static.
    assert list(backbone.decisions.adjacency) == ['layer2', 'layer3', 'layer4', 'layer5', 'layer6']


def test_skip_equals_mask():
    backbone = DGMobileNetV2(threshold=1.0).eval().double()
    randomize_routers(backbone)
    with torch.no_grad():
        skipped = backbone(IMAGES.double())
        backbone.execution = 'mask'
        assert_close(backbone(IMAGES.double()), skipped, 1e-10)


def test_frozen_stages_leave_the_routers_trainable():
    backbone = DGMobileNetV2(frozen_stages=3).train()
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert any(n.startswith('layer3.1') for n in frozen)
    assert not any('.router.' in n for n in frozen)
