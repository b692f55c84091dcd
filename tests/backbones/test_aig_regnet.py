"""AIG-RegNets: open = static, closed = shortcut, masked = skipped, gradients, freezing, warm start, errors."""
import pytest
import torch
from aig_cases import (
    assert_every_gate_learns,
    assert_no_images_give_no_features,
    assert_skipping_is_masking_whatever_is_decided,
    images_run,
    static_and_gated)
from dg_cases import assert_equal
from mmdet.models.backbones import RegNet
from mmdet.models.backbones.resnext import Bottleneck

from mmdyn.backbones import AIGRegNet
from mmdyn.layers import conditional

# Four stages of 8, 16, 32 and 64 channels, of two or three blocks each.
SMALL = dict(arch=dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=10, bot_mul=1.0))
GCB = [dict(cfg=dict(type='ContextBlock', ratio=1. / 16), stages=(False, True, True, True),
            position='after_conv3')]
VARIANTS = {
    'plain': {}, 'caffe': dict(style='caffe'), 'avg_down': dict(avg_down=True), 'plugins': dict(plugins=GCB),
    'frozen': dict(frozen_stages=2), 'norm_train': dict(norm_eval=False), 'with_cp': dict(with_cp=True),
    'with_cp_norm_train': dict(with_cp=True, norm_eval=False), 'out_indices': dict(out_indices=(1, 3)),
    'dilated': dict(strides=(2, 2, 1, 1), dilations=(1, 1, 2, 4)),
}


def small(gated=None, **options):
    return static_and_gated(RegNet, AIGRegNet, gated, **SMALL, **options)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('training', [True, False])
def test_all_gates_open_is_the_static_network_to_the_last_bit(variant, training):
    static, backbone = small(**VARIANTS[variant])
    static.train(training)
    assert backbone.train(training) is backbone
    backbone.force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    for grad in (True, False):  # at evaluation they run in different ways
        with torch.set_grad_enabled(grad):
            assert_equal(backbone(images), static(images))
    for key, value in static.state_dict().items():  # running statistics too
        assert torch.equal(backbone.state_dict()[key], value), key


@pytest.mark.parametrize('arch', ['regnetx_400mf', 'regnetx_800mf', 'regnetx_1.6gf', 'regnetx_3.2gf', 'regnetx_4.0gf'])
@torch.no_grad()
def test_presets_with_all_gates_open_are_static(arch):
    static, backbone = static_and_gated(RegNet, AIGRegNet, arch=arch)
    assert len(backbone.gates()) == backbone.depth  # each block has a shortcut
    static.eval()
    backbone.eval().force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    assert_equal(backbone(images), static(images))
    assert Bottleneck.expansion == 4


@torch.no_grad()
def test_600mf_is_a_preset_more():
    backbone = AIGRegNet('regnetx_600mf').eval()
    assert backbone.stage_widths == [48, 96, 240, 528] and backbone.stage_blocks == [1, 3, 5, 7]
    static = RegNet(AIGRegNet.arch_settings['regnetx_600mf'])
    static.load_state_dict({key: value for key, value in backbone.state_dict().items() if '.gate.' not in key})
    static.eval()
    backbone.force_decisions('open')
    images = torch.randn(1, 3, 64, 64)
    assert_equal(backbone(images), static(images))


@pytest.mark.parametrize('execution', ['skip', 'mask'])
@torch.no_grad()
def test_all_gates_closed_leaves_the_shortcuts(execution):
    static, backbone = small(dict(execution=execution))
    static.eval()
    backbone.eval().force_decisions('closed')
    images = torch.randn(2, 3, 64, 64)
    x = static.relu(static.norm1(static.conv1(images)))
    for features, layer in zip(backbone(images), static.res_layers):
        x = static.relu(getattr(static, layer)[0].downsample(x))
        assert torch.equal(features, x)


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('cache', [1, 20_000, 8 << 20])  # one image at a time, a few, all
def test_skipped_equals_masked(batch, cache, monkeypatch):
    monkeypatch.setattr(conditional, '_CACHE', cache)
    _, backbone = small()
    assert_skipping_is_masking_whatever_is_decided(backbone, batch)


def test_closed_blocks_do_not_run():
    _, backbone = small()
    backbone.eval().force_decisions('closed')
    assert images_run(backbone, torch.randn(2, 3, 64, 64)) == {}
    decisions = {name: [0, 1, 0] for name in backbone.gates()}
    decisions['layer2.0'] = [1, 1, 1]
    decisions['layer3.1'] = [0, 0, 0]
    backbone.force_decisions(decisions)
    wanted = {name: sum(decision) for name, decision in decisions.items() if any(decision)}
    assert images_run(backbone, torch.randn(3, 3, 64, 64)) == wanted


@pytest.mark.parametrize('options', [dict(frozen_stages=1, norm_eval=True), dict(with_cp=True), dict(norm_eval=False)])
def test_gradient_reaches_every_gate(options):
    backbone = AIGRegNet(**SMALL, zero_init_residual=False, **options)
    backbone.init_weights()
    assert_every_gate_learns(backbone.train(), torch.randn(4, 3, 64, 64))
    assert len(backbone.gates()) == 10


def test_frozen_stages_freeze_the_parents_parameters_and_not_the_gates():
    backbone = AIGRegNet(**SMALL, frozen_stages=1).train()
    for name, parameter in backbone.named_parameters():
        frozen = name.startswith(('conv1', 'bn1', 'layer1')) and '.gate.' not in name
        assert parameter.requires_grad is not frozen, name
    assert not backbone.layer1[0].bn1.training and backbone.layer1[0].gate.training


def test_a_static_checkpoint_lacks_nothing_but_the_gates(tmp_path):
    static = RegNet(**SMALL)
    torch.save(dict(state_dict=static.state_dict()), tmp_path / 'regnet.pth')
    backbone = AIGRegNet(**SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'regnet.pth')))
    backbone.init_weights()
    for key, value in static.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key
    for gate in backbone.gates().values():
        assert gate.fc2.bias.tolist() == pytest.approx([0.1, 2.0])


def test_target_rates():
    assert set(AIGRegNet(**SMALL, target_rates=0.6).target_rates.values()) == {0.6}
    rates = [1, None, 0.5, 0.4] + [1] * 6
    backbone = AIGRegNet(**SMALL, target_rates=rates)
    names = [name for name, _ in backbone.blocks()]
    assert list(backbone.gates()) == names[1:4]
    assert backbone.target_rates == {names[2]: 0.5, names[3]: 0.4}
    assert not AIGRegNet(**SMALL, target_rates=1).gates()


@torch.no_grad()
def test_target_0_leaves_the_block_out():
    static = RegNet(**SMALL)
    names = [name for name, _ in AIGRegNet(**SMALL).blocks()]
    backbone = AIGRegNet(**SMALL, target_rates=[0 if name == 'layer3.1' else None for name in names]).eval()
    _, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert unexpected == [key for key in static.state_dict() if key.startswith('layer3.1.')]
    static.layer3[1] = torch.nn.Identity()
    static.eval()
    backbone.force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    assert_equal(backbone(images), static(images))


@pytest.mark.parametrize('options, message', [
    (dict(arch='regnetx_9mf'), "arch must be one of .*regnetx_600mf.* or a dict of RegNet parameters, got 'regnetx_9mf'"),
    (dict(target_rates=[0.5] * 9), 'must have 10 entries, one for each residual block of this depth-10 backbone, got 9'),
    (dict(target_rates=[0] + [0.5] * 9), "block 'layer1.0' changes the shape .* expected a rate above 0, got 0"),
    (dict(target_rates=1.5), r'target_rates\[0\] must lie in \[0.0, 1.0\], got 1.5'),
    (dict(target_rates=dict(preset='paper', t=0.5)), r"'paper' exists for depths \[50, 101\], got depth 10"),
    (dict(policy='greedy'), 'policy must be one of'),
    (dict(gate=dict(width=3)), "gate takes the options .*got \\['width'\\]"),
])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AIGRegNet(**(SMALL | options))
    assert Bottleneck.expansion == 4  # which the parent changes while it builds


def test_a_batch_of_no_images_gives_empty_maps():
    assert_no_images_give_no_features(*small())
