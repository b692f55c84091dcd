"""The account is exact: what it claims of an image is what runs when the image is alone."""
import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

import mmdyn.backbones  # noqa: F401
from mmdyn.cost import CostAccount, blocks_run, own_sizes
from mmdyn.layers.decisions import Decisions

GCB = [dict(cfg=dict(type='ContextBlock', ratio=1. / 16), stages=(False, True, True, True),
            position='after_conv3')]
DCN = dict(dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
           stage_with_dcn=(False, True, True, True))
SMALL = dict(base_channels=8)
AIG = [
    dict(type='mmdyn.AIGResNet', depth=18, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=34, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=50, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=50, target_rates=dict(preset='paper', t=.5), **SMALL),
    dict(type='mmdyn.AIGResNet', depth=50, style='caffe', **SMALL),
    dict(type='mmdyn.AIGResNet', depth=50, avg_down=True, deep_stem=True, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=50, plugins=GCB, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=101, **SMALL),
    dict(type='mmdyn.AIGResNet', depth=152, **SMALL),
    dict(type='mmdyn.AIGResNeXt', depth=50, groups=4, base_width=4, **SMALL),
    dict(type='mmdyn.AIGRegNet', arch='regnetx_400mf'),
    dict(type='mmdyn.AIGRegNet', arch='regnetx_600mf', target_rates=[1, .5, 1, None] + [.5] * 8 + [1, 0, 0, None]),
    dict(type='mmdyn.AIGMobileNetV2', widen_factor=0.5),
    dict(type='mmdyn.AIGMobileNetV2', out_indices=(1, 2, 4, 6), target_rates=0.5),
    dict(type='mmdyn.AIGResNetCIFAR', depth=20),
    dict(type='mmdyn.AIGResNetCIFAR', depth=20, shortcut='B'),
]
DG = [
    dict(type='mmdyn.DGResNet', depth=18, **SMALL),
    dict(type='mmdyn.DGResNet', depth=50, **SMALL),
    dict(type='mmdyn.DGResNet', depth=50, node='block', **SMALL),
    dict(type='mmdyn.DGResNet', depth=101, **SMALL),
    dict(type='mmdyn.DGResNeXt', depth=50, groups=4, base_width=4, **SMALL),
    dict(type='mmdyn.DGRegNet', arch='regnetx_400mf'),
    dict(type='mmdyn.DGMobileNetV2', widen_factor=0.5),
    dict(type='mmdyn.DGMobileNetV2', widen_factor=0.5, node_gates=True),
    dict(type='mmdyn.DGMobileNetV2', widen_factor=0.5, node='block', node_gates=True),
    dict(type='mmdyn.DGResNet', depth=50, node_gates=True, router='bias', **SMALL,
         target_rates=[1, .5, 1] + [1, .5, 1, .5] + [1, .5] * 3 + [1, .5, 1]),
    dict(type='mmdyn.DGResNet', depth=50, node='block', column_bound=1.0, router=dict(norm='LN', dynamic=1.0), **SMALL),
]
BATCH_SIZES = [(96, 64), (64, 64), (40, 90), (96, 20)]  # heights and widths of the four images


def build(config: dict):
    if MODELS.get(config['type']) is None:
        pytest.skip(f'{config["type"]} is not there yet')
    return MODELS.build(copy.deepcopy(config)).eval()


def padded_batch() -> torch.Tensor:
    images = torch.zeros(4, 3, 96, 90)
    for image, (height, width) in zip(images, BATCH_SIZES):
        image[:, :height, :width] = torch.randn(3, height, width)
    return images


def random_decisions(backbone, images: int) -> dict:
    """Gates or edges that are open at a random rate, all reachable combinations among them."""
    rate = torch.rand(()).item()
    forced = {name: (torch.rand(images) < rate).float() for name in backbone.gates()}
    for name, stage in backbone.stages() if hasattr(backbone, 'stages') else ():
        n = len(stage)
        matrix = (torch.rand(images, n + 1, n + 1) < rate) * torch.rand(images, n + 1, n + 1).triu(1)
        matrix[:, 0, n] += 0.5  # the output always has an input
        forced[name] = matrix
    return forced


def of_image(decisions: dict, n: int) -> dict:
    return {name: value[n:n + 1] for name, value in decisions.items()}


@torch.no_grad()
def counted(backbone, image: torch.Tensor) -> float:
    """Half of all that PyTorch counts."""
    with FlopCounterMode(display=False) as counter:
        backbone(image)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize('patterns, config', [
    pytest.param(patterns, config, id='-'.join(str(v) for v in list(config.values())[:3]) + f'-{i}')
    for i, (patterns, config) in enumerate([(100, AIG[0]), (100, DG[0])] + [(8, c) for c in AIG + DG])])
@torch.no_grad()
def test_claimed_is_what_runs_for_random_decisions(patterns, config):
    backbone = build(config)
    account, images = CostAccount(backbone), padded_batch()
    for _ in range(patterns // len(images)):
        decisions = random_decisions(backbone, len(images))
        backbone.force_decisions(decisions)
        backbone(images)
        claimed, sizes = account.images(backbone.decisions), own_sizes(backbone.decisions)
        assert sizes == [(96, 64), (64, 64), (64, 90), (96, 32)]
        for n, (height, width) in enumerate(sizes):
            backbone.force_decisions(of_image(decisions, n))
            assert claimed[n].macs == counted(backbone, images[n:n + 1, :, :height, :width])


@pytest.mark.parametrize('config', [AIG[2], DG[1], DG[-4]], ids=['AIG', 'DG', 'DG with gates'])
@torch.no_grad()
def test_own_decisions_count_too(config):
    backbone = build(config)
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            parameter.normal_(std=2)
    account, images = CostAccount(backbone), padded_batch()
    backbone(images)
    costs = account.images(backbone.decisions)
    assert len({cost.macs / cost.dense_macs for cost in costs}) > 1
    for n, (height, width) in enumerate(own_sizes(backbone.decisions)):
        alone = images[n:n + 1, :, :height, :width]
        macs = counted(backbone, alone)
        assert account.images(backbone.decisions)[0].macs == macs


def test_everything_open_is_dense_and_the_static_parent_plus_its_gates():
    from mmdet.models.backbones import ResNet
    backbone, static = build(AIG[2]), ResNet(50, base_channels=8)
    static.eval()
    account = CostAccount(backbone)
    images = torch.randn(1, 3, 64, 64)
    backbone.force_decisions('open')
    backbone(images)
    cost, = account.images(backbone.decisions)
    assert cost.macs == cost.dense_macs == account.dense_macs((64, 64))
    gates = sum(part.macs for part in account.parts((64, 64)) if part.kind == 'gate')
    linear = [m for gate in backbone.deciders() for m in (gate.fc1, gate.fc2)]
    assert gates == sum(m.in_features * m.out_features for m in linear)
    with FlopCounterMode(display=False) as counter:
        static(images)
    assert counter.get_total_flops() == 2 * (cost.macs - gates)


def test_resnet_50_at_224_has_the_published_cost():
    account = CostAccount(MODELS.build(dict(type='mmdyn.AIGResNet', depth=50)))
    parts = account.parts((224, 224))
    static = sum(part.macs for part in parts if part.kind != 'gate')
    assert static == 4_087_136_256
    assert [part.stage for part in parts][0] == 'conv1' and parts[0].macs == 118_013_952
    first = {part.kind: part for part in parts if part.name == 'layer1.0'}
    assert set(first) == {'gate', 'branch', 'shortcut'}
    assert first['branch'].conditional and not first['gate'].conditional
    assert not first['shortcut'].conditional
    assert first['shortcut'].macs == 56 * 56 * 64 * 256


def test_the_first_node_of_a_wired_stage_always_runs():
    account = CostAccount(build(DG[0]))
    kinds = {(part.name, part.kind): part.conditional for part in account.parts((64, 64))}
    assert not kinds['layer1.0', 'branch'] and not kinds['layer2.0', 'shortcut']
    assert kinds['layer2.1', 'branch'] and kinds['layer2.1', 'router'] and not kinds['layer2.0', 'router']
    assert list(account.conditional_macs((64, 64))) == ['layer1.1', 'layer2.1', 'layer3.1', 'layer4.1']


def test_blocks_without_a_gate_always_count():
    backbone = MODELS.build(dict(type='mmdyn.AIGResNet', depth=18, target_rates=1))
    backbone.eval()(torch.randn(2, 3, 64, 64))
    for cost in CostAccount(backbone).images(backbone.decisions):
        assert cost.macs == cost.dense_macs


def test_deformable_convolutions_count_as_plain_ones():
    plain, deformable = build(AIG[2]), build(dict(AIG[2], **DCN))
    offsets = [m for m in deformable.modules() if hasattr(m, 'conv_offset')]
    macs = [CostAccount(backbone).dense_macs((64, 64)) for backbone in (plain, deformable)]
    extra, shapes = 0, {}
    for module in offsets:
        module.conv_offset.register_forward_hook(
            lambda m, args, out: shapes.__setitem__(m, out.shape[2:].numel()))
    deformable.force_decisions('open')
    deformable(torch.randn(1, 3, 64, 64))
    for conv, cells in shapes.items():
        extra += conv.weight.numel() * cells
    assert len(shapes) == len(offsets) == 13
    assert macs[1] - macs[0] == extra


def test_an_operator_that_needs_real_numbers_is_counted_on_the_cpu():

    class Reads(torch.nn.Conv2d):

        def forward(self, x):
            assert x.sum().item() == 0
            return super().forward(x)

    plain, reading = build(AIG[0]), build(AIG[0])
    reading.conv1.__class__ = Reads
    assert CostAccount(reading).dense_macs((64, 64)) == CostAccount(plain).dense_macs((64, 64))


def test_counting_leaves_the_backbone_as_it_was():
    backbone = build(AIG[0]).train()
    seen = []
    backbone.layer1.register_forward_hook(lambda *args: seen.append(args))
    backbone.conv1.register_forward_pre_hook(lambda *args: seen.append(args))
    before = copy.deepcopy(backbone.state_dict())
    backbone.force_decisions('closed')
    CostAccount(backbone).dense_macs((64, 64))
    assert not seen and backbone.training and backbone.decisions is None
    assert backbone._forced == 'closed' and backbone.execution == 'skip'
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_under_the_policy_expected_every_block_runs():
    backbone = build(dict(AIG[0], policy='expected'))
    backbone(torch.randn(2, 3, 64, 64))
    for cost in CostAccount(backbone).images(backbone.decisions):
        assert cost.macs == cost.dense_macs


def test_padding_counts_when_it_is_not_told_apart():
    backbone = build(AIG[0])
    backbone.pool_padding = True
    backbone(padded_batch())
    assert own_sizes(backbone.decisions) == [(96, 90)] * 4


def test_the_differentiable_form_has_the_same_value_and_the_cost_of_a_block_as_gradient():
    backbone = build(AIG[0])
    decisions = random_decisions(backbone, 3)
    backbone.force_decisions(decisions)
    backbone(torch.randn(3, 3, 64, 64))
    account = CostAccount(backbone)
    made = backbone.decisions
    gates = {name: gate.detach().requires_grad_() for name, gate in made.gates.items()}
    made.gates.update(gates)
    dynamic, dense = account.batch_gmacs(made)
    exact = account.images(made)
    assert dynamic.tolist() == pytest.approx([cost.macs / 1e9 for cost in exact], rel=1e-6)
    assert dense.tolist() == pytest.approx([cost.dense_macs / 1e9 for cost in exact], rel=1e-6)
    dynamic.sum().backward()
    for name, macs in account.conditional_macs((64, 64)).items():
        assert gates[name].grad.tolist() == pytest.approx([macs / 1e9] * 3)


def test_a_node_runs_where_an_edge_into_it_is_open():
    decisions = Decisions(torch.full((2, 2), 32), (32, 32))
    adjacency = torch.zeros(2, 4, 4)
    adjacency[0, 0, 1] = adjacency[0, 1, 3] = adjacency[1, 0, 2] = adjacency[1, 2, 3] = 0.7
    decisions.adjacency['layer1'] = adjacency.requires_grad_()
    ran = blocks_run(decisions)
    assert {name: value.tolist() for name, value in ran.items()} == {
        'layer1.1': [1, 0], 'layer1.2': [0, 1]}
    ran['layer1.2'].sum().backward()
    # To die, a node has to lose all of its open edges; to wake, it needs any one edge.
    wanted = torch.zeros(2, 4, 4)
    wanted[0, :2, 2] = wanted[1, 0, 2] = 1
    assert torch.equal(adjacency.grad, wanted)
