"""DG-RegNet: every preset is wired and equals its static network as a chain."""
import pytest
import torch
from dg_cases import assert_equal, assert_every_parameter_has_a_gradient, static_and_dynamic
from mmdet.models.backbones import RegNet
from mmdet.models.backbones.resnext import Bottleneck
from mmdyn.backbones.dg_regnet import DGRegNet

LARGE = ('regnetx_6.4gf', 'regnetx_8.0gf', 'regnetx_12gf')


@pytest.mark.parametrize('arch', [a for a in RegNet.arch_settings if a not in LARGE])
@pytest.mark.parametrize('training', [True, False])
def test_the_chain_is_the_static_network_to_the_last_bit(arch, training):
    static, backbone = static_and_dynamic(RegNet, DGRegNet, dict(node='block'), arch=arch)
    static.train(training), backbone.train(training)
    backbone.force_decisions('chain')
    images = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(training):
        assert_equal(backbone(images), static(images))
    assert Bottleneck.expansion == 4


@pytest.mark.parametrize('arch', LARGE)
def test_large_presets_run(arch):
    backbone = DGRegNet(arch).eval()
    with torch.no_grad():
        outs = backbone(torch.randn(1, 3, 32, 32))
    assert [out.shape[1] for out in outs] == backbone.stage_widths


def test_600mf_has_the_published_widths_and_depths():
    backbone = DGRegNet('regnetx_600mf').train()
    assert backbone.stage_widths == [48, 96, 240, 528] and backbone.stage_blocks == [1, 3, 5, 7]
    # A stage of one block stays static.
    assert list(dict(backbone.stages())) == ['layer2', 'layer3', 'layer4']
    assert_every_parameter_has_a_gradient(backbone, torch.randn(2, 3, 64, 64))


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="arch must be one of .*regnetx_600mf.*, got 'regnety'"):
        DGRegNet('regnety')


@pytest.mark.parametrize('options', [dict(node='edge'), dict(strides=(1, ))])
def test_a_refused_option_leaves_other_networks_alone(options):
    with pytest.raises((ValueError, AssertionError)):
        DGRegNet('regnetx_400mf', **options)
    assert Bottleneck.expansion == 4
