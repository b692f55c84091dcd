"""AIG-ResNets: open = static, closed = shortcut, masked = skipped, gradients, freezing, errors."""
import copy

import pytest
import torch
from mmdet.models.backbones import ResNet, ResNeXt
from mmengine.registry import MODELS, DefaultScope

from mmdyn.layers import conditional
from mmdyn.backbones import AIGResNet, AIGResNetCIFAR, AIGResNeXt
from mmdyn.backbones.resnet_cifar import ResNetCIFAR

GCB = [dict(cfg=dict(type='ContextBlock', ratio=1. / 16), stages=(False, True, True, True),
            position='after_conv3')]
DCN = dict(dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
           stage_with_dcn=(False, True, True, True))
VARIANTS = {
    'plain': {}, 'caffe': dict(style='caffe'), 'avg_down': dict(avg_down=True),
    'deep_stem': dict(deep_stem=True), 'dcn': DCN, 'plugins': dict(plugins=GCB),
    'frozen': dict(frozen_stages=2), 'norm_train': dict(norm_eval=False), 'with_cp': dict(with_cp=True)
}
CASES = [(depth, 'plain') for depth in (18, 34, 50, 101)] + \
    [(18, name) for name in ('avg_down', 'deep_stem', 'frozen', 'norm_train', 'with_cp')] + \
    [(50, name) for name in VARIANTS if name != 'plain']


def static_and_dynamic(depth, options, static_class=ResNet, dynamic_class=AIGResNet, **dynamic):
    static = static_class(depth=depth, **copy.deepcopy(options))
    # A fresh residual branch ends in a zero norm: it must compute something to be compared.
    for parameter in static.parameters():
        if parameter.dim() == 1:
            parameter.data.uniform_(0.5, 1.0)
    backbone = dynamic_class(depth=depth, **copy.deepcopy(options), **dynamic)
    missing, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected and all('.gate.' in key for key in missing)
    return static, backbone


@pytest.mark.parametrize('depth, variant', CASES)
@pytest.mark.parametrize('training', [True, False])
def test_all_gates_open_is_the_static_network_to_the_last_bit(depth, variant, training):
    width = {} if variant == 'plain' else dict(base_channels=16)
    static, backbone = static_and_dynamic(depth, VARIANTS[variant] | width)
    static.train(training)
    assert backbone.train(training) is backbone
    backbone.force_decisions('open')
    images = torch.randn(2, 3, 64, 64)
    for ours, theirs in zip(backbone(images), static(images)):
        assert torch.equal(ours, theirs)


def test_resnext_all_open_is_static():
    options = dict(groups=32, base_width=4)
    static, backbone = static_and_dynamic(50, options, ResNeXt, AIGResNeXt)
    static.eval()
    backbone.eval().force_decisions('open')
    images = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(backbone(images), static(images)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('execution', ['skip', 'mask'])
def test_all_gates_closed_leaves_the_shortcuts(execution):
    static, backbone = static_and_dynamic(50, {}, execution=execution)
    static.eval()
    backbone.eval().force_decisions('closed')
    images = torch.randn(2, 3, 64, 64)
    x = static.maxpool(static.relu(static.norm1(static.conv1(images))))
    for features, layer in zip(backbone(images), static.res_layers):
        x = static.relu(getattr(static, layer)[0].downsample(x))
        assert torch.equal(features, x)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('cache', [1, 20_000, 8 << 20])  # one image at a time, a few, all
def test_skipped_equals_masked(depth, batch, cache, monkeypatch):
    monkeypatch.setattr(conditional, '_CACHE', cache)
    _, backbone = static_and_dynamic(depth, dict(base_channels=16))
    backbone = backbone.double().eval()
    images = torch.randn(batch, 3, 64, 64, dtype=torch.float64)
    for _ in range(4):
        backbone.force_decisions({n: torch.randint(0, 2, (batch, )) for n in backbone.gates()})
        features = []
        for execution in ('skip', 'mask'):
            backbone.execution = execution
            with torch.no_grad():
                features.append(backbone(images))
        for skipped, masked in zip(*features):
            torch.testing.assert_close(skipped, masked, rtol=1e-12, atol=1e-12)


def test_closed_blocks_do_not_run():
    _, backbone = static_and_dynamic(18, {})
    ran = []
    for name, block in backbone.blocks():
        block.conv2.register_forward_hook(
            lambda module, args, out, name=name: ran.append((name, len(out))))
    backbone.eval().force_decisions('closed')
    backbone(torch.randn(2, 3, 64, 64))
    assert not ran
    decisions = {name: [0, 1, 0] for name in backbone.gates()}
    decisions['layer2.0'] = [1, 1, 1]
    backbone.force_decisions(decisions)
    backbone(torch.randn(3, 3, 64, 64))
    assert dict(ran) == {name: 3 if name == 'layer2.0' else 1 for name in backbone.gates()}


def test_emitted_features_are_not_overwritten_by_later_blocks():
    # Strides and widths that give stage 2 an identity shortcut on stage 1's own output.
    backbone = AIGResNet(18, strides=(1, 1, 1, 1), base_channels=8, num_stages=4).eval()
    images = torch.randn(2, 3, 32, 32)
    backbone.force_decisions({name: [1, 0] for name in backbone.gates()})
    with torch.no_grad():
        first = backbone(images)[0]
        backbone.execution = 'mask'
        torch.testing.assert_close(first, backbone(images)[0])


def test_gradients_flow_through_evaluation_too():
    _, backbone = static_and_dynamic(18, {})
    backbone.eval().force_decisions({name: [1, 0] for name in backbone.gates()})
    grads = []
    for execution in ('skip', 'mask'):
        backbone.execution = execution
        images = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(0)).requires_grad_()
        sum(f.sum() for f in backbone(images)).backward()
        grads.append(images.grad)
    torch.testing.assert_close(*grads)


def test_gate_parameters_of_r50_add_211232():
    static, backbone = static_and_dynamic(50, {})
    count = [sum(p.numel() for p in m.parameters()) for m in (static, backbone)]
    assert count[1] - count[0] == 211_232


@pytest.mark.parametrize('options', [dict(frozen_stages=1, norm_eval=True), dict(with_cp=True),
                                     dict(norm_eval=False)])
def test_gradient_reaches_every_gate(options):
    backbone = AIGResNet(18, gate=dict(norm='BN'), zero_init_residual=False, **options)
    backbone.init_weights()
    backbone.train()
    sum(f.square().mean() for f in backbone(torch.randn(4, 3, 64, 64))).backward()
    for name, gate in backbone.gates().items():
        for key, parameter in gate.named_parameters():
            assert parameter.grad.abs().sum() > 0, f'{name}.{key}'


def test_frozen_stages_freeze_the_parents_parameters_and_not_the_gates():
    backbone = AIGResNet(18, frozen_stages=1, gate=dict(norm='BN')).train()
    for name, parameter in backbone.named_parameters():
        frozen = name.startswith(('conv1', 'bn1', 'layer1')) and '.gate.' not in name
        assert parameter.requires_grad is not frozen, name
    assert not backbone.layer1[0].bn1.training
    gate = backbone.layer1[0].gate
    assert gate.training and gate.norm.training  # a gate's norm has statistics to learn, `norm_eval` or not
    gate.norm.num_batches_tracked += 1
    assert backbone.train().layer1[0].gate.norm.training  # in every epoch, and after resuming
    assert not backbone.eval().layer1[0].gate.norm.training
    gate.requires_grad_(False)
    assert not any(p.requires_grad for p in backbone.train().layer1[0].gate.parameters())


def test_torchvision_checkpoints_lack_nothing_but_the_gates(tmp_path):
    import torchvision
    state = torchvision.models.resnet50(weights=None).state_dict()
    torch.save(state, tmp_path / 'resnet50.pth')
    backbone = AIGResNet(50, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet50.pth')))
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert missing and all('.gate.' in key for key in missing)
    assert unexpected == ['fc.weight', 'fc.bias']  # the classifier's head
    backbone.conv1.weight.data.zero_()
    backbone.init_weights()
    assert torch.equal(backbone.conv1.weight, state['conv1.weight'])
    assert backbone.layer1[0].gate.fc2.bias.tolist() == pytest.approx([0.1, 2.0])


def test_initialisation_is_the_parents_and_the_gates_own():
    backbone = AIGResNet(50)
    backbone.init_weights()
    assert backbone.layer1[0].bn3.weight.abs().sum() == 0  # zero_init_residual
    assert backbone.layer1[0].gate.fc2.bias.tolist() == pytest.approx([0.1, 2.0])


def test_target_1_means_no_gate():
    backbone = AIGResNet(50, target_rates=dict(preset='paper', t=0.5))
    assert list(backbone.gates()) == ['layer1.2', 'layer2.1', 'layer2.2', 'layer2.3', 'layer3.1',
                                      'layer3.2', 'layer3.3', 'layer3.4', 'layer3.5', 'layer4.1']
    assert backbone.target_rates['layer4.1'] == 0.7
    assert not AIGResNet(18, target_rates=1).gates()


@torch.no_grad()
def test_target_0_leaves_the_block_out():
    torch.manual_seed(0)
    static = ResNetCIFAR(20)
    backbone = AIGResNetCIFAR(20, target_rates=[1, 0, None, 1, 1, 0, 1, 0, 0], gate=dict(num_classes=3))
    missing, unexpected = backbone.load_state_dict(static.state_dict(), strict=False)
    assert all('.gate.' in key for key in missing)
    left_out = ('layer1.1.', 'layer2.2.', 'layer3.1.', 'layer3.2.')
    assert unexpected == [key for key in static.state_dict() if key.startswith(left_out)]
    assert [name for name, _ in backbone.blocks()] == ['layer1.0', 'layer1.2', 'layer2.0', 'layer2.1', 'layer3.0']
    backbone.force_decisions('open')
    images = torch.randn(2, 3, 32, 32)
    for name in left_out:
        layer, index, _ = name.split('.')
        getattr(static, layer)[int(index)] = torch.nn.Identity()
    for mode in (True, False):
        static.train(mode)
        assert torch.equal(backbone.train(mode)(images)[0], static(images)[0])


def test_a_block_that_changes_the_shape_cannot_be_left_out():
    with pytest.raises(ValueError, match="block 'layer2.0' changes the shape .* expected a rate above 0, got 0"):
        AIGResNet(18, target_rates=[1, 1, 0, 1, 1, 1, 1, 1])


def test_gates_that_know_the_classes_skip_what_masking_masks():
    torch.manual_seed(0)
    backbone = AIGResNetCIFAR(20, gate=dict(num_classes=10), open_probability=0.7).double().eval()
    for gate in backbone.deciders():
        torch.nn.init.normal_(gate.fc.weight, std=0.7)  # as if of a classifier
    images = torch.randn(16, 3, 32, 32, dtype=torch.float64)
    one_by_one = torch.cat([backbone(image[None])[0] for image in images])
    skipped = backbone(images)[0]
    rates = [gate.mean() for gate in backbone.decisions.gates.values()]
    assert any(0 < rate < 1 for rate in rates)
    assert rates == sorted(rates, reverse=True)  # no image comes back
    backbone.execution = 'mask'
    for other in (one_by_one, backbone(images)[0]):
        torch.testing.assert_close(other, skipped, atol=1e-12, rtol=0)


def test_expected_policy_scales_every_block_by_its_open_probability():
    backbone = AIGResNet(18, policy='expected').eval()
    images = torch.randn(2, 3, 64, 64)
    backbone(images)
    gate, logit = (getattr(backbone.decisions, n)['layer1.0'] for n in ('gates', 'gate_logits'))
    torch.testing.assert_close(gate, torch.sigmoid(logit))
    x = backbone.run_stem(images)
    block = backbone.layer1[0]
    branch = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    out = torch.relu(x + gate[:, None, None, None] * branch)
    seen = []
    backbone.layer1[1].conv1.register_forward_hook(lambda m, args, o: seen.append(args[0]))
    backbone(images)
    torch.testing.assert_close(seen[0], out)


def test_padding_of_batch_mates_does_not_reach_the_gates():
    backbone = AIGResNet(18).eval()
    images = torch.randn(1, 3, 64, 64)
    padded = torch.zeros(2, 3, 96, 128)
    padded[0, :, :64, :64] = images
    padded[1] = 1
    pooled = []
    backbone.layer1[0].gate.register_forward_hook(lambda m, args, out: pooled.append(args[0][0]))
    backbone(images)
    backbone(padded)
    # The map differs in the cells that touch the border, no more than that.
    assert (pooled[0] - pooled[1]).abs().max() < 0.1 * pooled[0].abs().max()
    backbone.pool_padding = True
    backbone(padded)
    assert (pooled[0] - pooled[2]).abs().max() > 0.3 * pooled[0].abs().max()


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_the_scope_alone_builds_it_from_another_project(scope):
    import importlib
    registry = importlib.import_module(f'{scope}.registry').MODELS
    backbone = registry.build(dict(type='mmdyn.AIGResNet', depth=18))
    assert isinstance(backbone, AIGResNet)


def test_plain_names_are_in_mmdetections_registry():
    from mmdet.registry import MODELS as MMDET_MODELS
    with DefaultScope.overwrite_default_scope('mmdet'):  # a Runner of another test may have left its own
        assert type(MMDET_MODELS.build(dict(type='AIGResNeXt', depth=50))) is AIGResNeXt
    assert MODELS.get('mmdyn.AIGResNetCIFAR') is AIGResNetCIFAR


@pytest.mark.parametrize('decisions, message', [
    ('ajar', "'open', 'closed'"),
    ({'layer9.0': [1]}, "no gate at block 'layer9.0'; the gated blocks are"),
    ({'layer1.0': [2]}, 'zeros and ones'),
    ({'layer1.0': [[1]]}, 'zeros and ones'),
])
def test_bad_forced_decisions(decisions, message):
    with pytest.raises(ValueError, match=message):
        AIGResNet(18).force_decisions(decisions)


def test_forced_decisions_must_fit_the_batch():
    backbone = AIGResNet(18).eval()
    backbone.force_decisions({'layer1.0': [1, 0]})
    with pytest.raises(ValueError, match=r'must have shape \(3,\) for this batch, got \(2,\)'):
        backbone(torch.randn(3, 3, 32, 32))


@pytest.mark.parametrize('options, error, message', [
    (dict(depth=19), KeyError, '19'),
    (dict(policy='greedy'), ValueError, 'policy must be one of'),
    (dict(policy='greedy', target_rates=1), ValueError, 'policy must be one of'),
    (dict(execution='fast'), ValueError, r"execution must be one of \('skip', 'mask'\), got 'fast'"),
    (dict(gate=dict(width=3)), ValueError, "gate takes the options .*got \\['width'\\]"),
    (dict(gate=dict(num_classes=10, norm='BN')), ValueError, r"gate takes the options \('num_classes',\), got \['norm'\]"),
    (dict(target_rates=[0.5]), ValueError, 'must have 8 entries'),
    (dict(open_probability='calibrated'), ValueError, r"'calibrated': .*expected target_rates .*got None for layer1.0, l"),
    (dict(open_probability='calibrated', target_rates=[0.5, None] + [1] * 6), ValueError, 'got None for layer1.1$'),
])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        AIGResNet(**{'depth': 18, **options})


def test_what_gates_are_to_learn_without_anything_that_teaches_it_raises():
    for options, loss in ((dict(target_rates=0.5), 'TargetRateLoss'), (dict(gate=dict(num_classes=3)), 'GateClassLoss')):
        backbone = AIGResNet(18, **options).train()
        with pytest.raises(RuntimeError, match=f"type='mmdyn.DynamicModelHook', losses=.*type='mmdyn.{loss}'"):
            backbone(torch.randn(2, 3, 32, 32))
    backbone.eval()(torch.randn(2, 3, 32, 32))
