"""DG-ResNets for CIFAR: chain = static with both shortcuts, gradients, skip = mask."""
import pytest
import torch
from dg_cases import (assert_close, assert_equal, assert_every_parameter_has_a_gradient,
                      randomize_routers, static_and_dynamic)
from mmdyn.backbones.dg_resnet_cifar import DGResNetCIFAR
from mmdyn.backbones.resnet_cifar import ResNetCIFAR
from mmengine.registry import MODELS

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
STAGES = ['layer1', 'layer2', 'layer3']


@pytest.mark.parametrize('depth', [20, 32, 44, 56, 110])
@pytest.mark.parametrize('shortcut', ['A', 'B'])
@pytest.mark.parametrize('forced', ['chain', None])
def test_the_chain_of_blocks_is_the_static_network_to_the_last_bit(depth, shortcut, forced):
    static, backbone = static_and_dynamic(
        ResNetCIFAR, DGResNetCIFAR, dict(node='block'), depth=depth, shortcut=shortcut)
    backbone.force_decisions(forced)  # None: the wiring that `init='static'` starts with
    for training in (True, False):
        static.train(training), backbone.train(training)
        with torch.set_grad_enabled(training):
            assert_equal(backbone(IMAGES), static(IMAGES))


@pytest.mark.parametrize('node', ['branch', 'block'])
@pytest.mark.parametrize('shortcut', ['A', 'B'])
def test_every_parameter_gets_a_gradient(node, shortcut):
    backbone = DGResNetCIFAR(20, shortcut=shortcut, node=node, threshold=1.0, init='complete').train()
    randomize_routers(backbone)
    assert_every_parameter_has_a_gradient(backbone, IMAGES)
    assert list(backbone.decisions.adjacency) == STAGES
    assert backbone.decisions.adjacency['layer2'].shape == (2, 4, 4)


@pytest.mark.parametrize('node', ['branch', 'block'])
@pytest.mark.parametrize('shortcut', ['A', 'B'])
def test_skip_equals_mask(node, shortcut):
    backbone = DGResNetCIFAR(32, shortcut=shortcut, node=node, threshold=1.0, init='complete')
    backbone.eval().double()
    randomize_routers(backbone)
    with torch.no_grad():
        skipped = backbone(IMAGES.double())
        is_open = torch.stack([backbone.decisions.adjacency[name] > 0 for name in STAGES])
        backbone.execution = 'mask'
        assert_close(backbone(IMAGES.double()), skipped, 1e-10)
    assert 0 < is_open.double().sum() < 2 * 3 * 15  # of 15 edges a stage


def test_branches_train_with_frozen_stages_and_recomputation():
    backbone = DGResNetCIFAR(20, frozen_stages=1, with_cp=True).train()
    assert_every_parameter_has_a_gradient(backbone, IMAGES)
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert any(n.startswith('layer1.2') for n in frozen) and not any('.router.' in n for n in frozen)


def test_the_registry_knows_it_and_its_errors_name_the_option():
    assert MODELS.get('mmdyn.DGResNetCIFAR') is DGResNetCIFAR
    with pytest.raises(ValueError, match="shortcut must be one of .*, got 'C'"):
        DGResNetCIFAR(20, shortcut='C')
    with pytest.raises(ValueError, match="node must be one of .*, got 'layer'"):
        DGResNetCIFAR(20, node='layer')
