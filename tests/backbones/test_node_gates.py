"""Wired backbones that leave nodes out: what a shut gate takes away, and that nothing else changes."""
import copy

import pytest
import torch
from aig_cases import assert_skipped_is_masked, images_run, padded_batch
from mmdet.models.backbones import MobileNetV2, ResNet
from torch import nn
from toy import SMALL_AIG, toy_runner

from mmdyn.backbones import AIGMobileNetV2, AIGResNet, DGMobileNetV2, DGResNet, DGResNetCIFAR
from mmdyn.cost import CostAccount, blocks_run
from mmdyn.losses import ComputeBudgetLoss, TargetRateLoss

MOBILE, RESNET = dict(widen_factor=0.25), dict(depth=18, base_channels=8)
# Static at the start: as branches whose edges weigh 1, and as a chain of blocks.
STATIC = {
    'branches': (MobileNetV2, AIGMobileNetV2, DGMobileNetV2, MOBILE, dict(node='branch', init='static')),
    'blocks': (MobileNetV2, AIGMobileNetV2, DGMobileNetV2, MOBILE, dict(node='block')),
    'rectified blocks': (ResNet, AIGResNet, DGResNet, RESNET, dict(node='block')),
}
WIRED = {
    'branches': lambda **options: DGMobileNetV2(**MOBILE, **options),
    'rectified branches': lambda **options: DGResNetCIFAR(depth=32, base_channels=4, threshold=0.7, **options),
    'blocks': lambda **options: DGMobileNetV2(**MOBILE, node='block', init='complete', **options),
    'bounded blocks': lambda **options: DGResNetCIFAR(depth=32, base_channels=4, node='block', column_bound=1.0, **options),
}


def built(build, **options) -> nn.Module:
    """With residual branches that compute something, and decisions that differ between images."""
    torch.manual_seed(0)
    backbone = build(**options).double()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            nn.init.normal_(parameter, std=0.5)
    backbone.losses_attached = True
    return backbone


def close(ours, theirs, tolerance=1e-12):
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * b.abs().max().item())


@pytest.mark.parametrize('kind', STATIC)
@pytest.mark.parametrize('mode', ['train', 'skip', 'mask'])
def test_with_the_wiring_of_the_static_network_it_is_a_convnet_aig(kind, mode):
    """Shut gates leave what a residual network has without their blocks, and gates read what its gates read."""
    _, gated_class, wired_class, options, start = STATIC[kind]
    wired = wired_class(**options, **start, node_gates=True).double()
    wired.losses_attached = True
    rates = [None if name in wired.gates() else 1 for name, _ in gated_class(**options).blocks()]
    gated = built(gated_class, target_rates=rates, **options)
    missing, unexpected = wired.load_state_dict(gated.state_dict(), strict=False)
    assert not unexpected and missing and all('.router.' in key for key in missing)
    for backbone in (gated, wired):
        backbone.train(mode == 'train').execution = 'mask' if mode == 'mask' else 'skip'
    images, results = padded_batch(4), []
    for backbone in (gated, wired):
        torch.manual_seed(1)
        with torch.set_grad_enabled(mode == 'train'):
            results.append((backbone(images), list(backbone.decisions.gates.values())))
    (theirs, their_gates), (ours, our_gates) = results
    assert all(torch.equal(a, b) for a, b in zip(our_gates, their_gates))
    assert 0 < torch.stack(our_gates).mean() < 1
    close(ours, theirs)
    if mode == 'train':
        for outs in (ours, theirs):
            sum(out.square().mean() for out in outs).backward()
        for name, gate in gated.gates().items():
            close([p.grad for p in wired.gates()[name].parameters()], [p.grad for p in gate.parameters()], 1e-9)


@pytest.mark.parametrize('kind', STATIC)
def test_with_all_gates_shut_the_first_blocks_are_left(kind):
    static_class, _, wired_class, options, start = STATIC[kind]
    backbone = wired_class(**options, **start, node_gates=True).double().eval()
    static = static_class(**options).double()
    static.eval()
    static.load_state_dict(backbone.state_dict(), strict=False)
    for name in dict(backbone.stages()):
        setattr(static, name, nn.Sequential(getattr(static, name)[0]))
    backbone.force_decisions('closed')
    images = padded_batch(2)
    with torch.no_grad():
        for execution in ('skip', 'mask'):
            backbone.execution = execution
            close(backbone(images), static(images))


@pytest.mark.parametrize('kind', WIRED)
@pytest.mark.parametrize('mode', ['train', 'skip', 'mask'])
def test_with_all_gates_open_it_is_what_it_is_without_gates(kind, mode):
    gated = built(WIRED[kind], node_gates=True)
    plain = WIRED[kind]().double()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if '.gate.' not in k})  # strictly
    gated.force_decisions('open')
    for gate in gated.gates().values():  # which otherwise hands gradient to what it reads
        nn.init.zeros_(gate.fc1.weight)
    images, results = padded_batch(3), []
    for backbone in (gated, plain):
        backbone.train(mode == 'train').execution = 'mask' if mode == 'mask' else 'skip'
        with torch.set_grad_enabled(mode == 'train'):
            outs = backbone(images)
        if mode == 'train':
            sum(out.square().mean() for out in outs).backward()
        results.append([*outs, *backbone.decisions.adjacency.values(),
                        *(p.grad for n, p in backbone.named_parameters() if '.gate.' not in n and mode == 'train')])
    assert any((matrix == 0).any() for matrix in plain.decisions.adjacency.values())
    dead = any(not ran.all() for ran in blocks_run(plain.decisions).values())
    if mode == 'skip' and dead:  # then a router reads another number of images at a time
        close(*results)
    else:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results))


@pytest.mark.parametrize('kind', WIRED)
def test_skipped_is_masked_and_a_batch_is_its_images_one_by_one(kind):
    backbone, images = built(WIRED[kind], node_gates=True).eval(), padded_batch(4)
    assert_skipped_is_masked(backbone, images)
    decisions = backbone.decisions
    assert 0 < torch.stack(list(decisions.gates.values())).mean() < 1
    for execution in ('skip', 'mask'):
        backbone.execution = execution
        with torch.no_grad():
            outs = backbone(images)
            for n in range(4):
                close(backbone(images[n:n + 1]), [out[n:n + 1] for out in outs], 1e-11)
                for name, gate in backbone.decisions.gates.items():
                    assert gate.item() == decisions.gates[name][n]


@pytest.mark.parametrize('kind', WIRED)
def test_a_branch_runs_only_for_images_of_open_gates(kind):
    backbone, images = built(WIRED[kind], node_gates=True).eval(), padded_batch(4)
    backbone.blocks = lambda: ((f'{name}.{i}', block) for name, stage in backbone.stages() for i, block in enumerate(stage))
    ran = images_run(backbone, images)
    counted = {name: int(value.sum()) for name, value in blocks_run(backbone.decisions).items()}
    assert {name: ran.get(name, 0) for name in counted} == counted
    assert 0 < sum(counted.values()) < 4 * len(counted)


@pytest.mark.parametrize('kind', WIRED)
def test_losses_reach_every_gate(kind):
    backbone = built(WIRED[kind], node_gates=True, target_rates=0.6).train()
    for gate in backbone.gates().values():
        gate.noise = 0.0
    images = padded_batch(4)
    for loss in (TargetRateLoss(), ComputeBudgetLoss(target=0.1)):
        backbone.zero_grad()
        backbone(images)
        needs = [CostAccount(backbone)] if getattr(loss, 'needs_cost', False) else []
        loss(backbone.decisions, *needs).backward()
        for name, gate in backbone.gates().items():
            assert gate.fc2.bias.grad.any(), name
    backbone(images)
    ran = blocks_run(backbone.decisions)
    assert list(ran) == list(backbone.gates())
    for name, gate in backbone.decisions.gates.items():
        of_gate, = torch.autograd.grad(ran[name].sum(), gate, retain_graph=True)
        assert torch.equal(of_gate, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize('kind', WIRED)
def test_some_or_all_images_of_a_batch_can_be_open(kind):
    """For paired routes: nobody is asked about open images, and the decisions are those of the others."""
    backbone, images = built(WIRED[kind], node_gates=True).train(), padded_batch(4)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # or the images of a batch would see each other
    torch.manual_seed(1)
    backbone.force_decisions({name: torch.randint(0, 2, (4, )) for name in backbone.gates()})
    routed, gates = backbone(images), dict(backbone.decisions.gates)
    adjacency = dict(backbone.decisions.adjacency)
    backbone.force_decisions('open')
    opened = backbone(images)
    backbone.force_decisions({name: gate[2:] for name, gate in gates.items()})
    backbone.open_share = 0.5
    halves = backbone(images)
    assert len(backbone.decisions) == 2 and list(backbone.decisions.gates) == list(gates)
    for name, matrix in backbone.decisions.adjacency.items():
        torch.testing.assert_close(matrix, adjacency[name][2:], rtol=1e-12, atol=1e-12)
    close([half[:2] for half in halves], [out[:2] for out in opened])
    close([half[2:] for half in halves], [out[2:] for out in routed])
    with backbone.all_open():
        close(backbone(images), opened)
        assert not backbone.decisions.gates and not backbone.decisions.adjacency
        assert ComputeBudgetLoss(target=0.5)(backbone.decisions, CostAccount(backbone)) is None


def test_losses_schedules_calibration_and_reports_take_these_gates_as_others(tmp_path):
    backbone = dict(SMALL_AIG, type='mmdyn.DGResNet', node_gates=True, target_rates=0.5, open_probability='calibrated')
    runner = toy_runner(
        tmp_path, backbone, metric=dict(type='mmdyn.ComputeMetric'), hooks=[
            dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss'),
                                                        dict(type='mmdyn.ComputeBudgetLoss', target=0.9)]),
            dict(type='mmdyn.GateScheduleHook', stop=0.25), dict(type='mmdyn.CalibrationHook', num_batches=3)])
    runner.train()
    gates = runner.model.backbone.gates()
    assert list(gates) == ['layer1.1', 'layer2.1']
    for gate in gates.values():
        assert gate.noise == 0.4375 and gate.calibration_steps > 3  # of the last of four iterations
    metrics = runner.val()
    for name in gates:
        assert 0 <= metrics[f'compute/open_rate/{name}'] <= 1 and f'compute/open_probability_std/{name}' in metrics
    assert metrics['compute/ratio'] <= 1


@pytest.mark.parametrize('form', ['twice', 'half'])
def test_paired_routes_take_these_gates(tmp_path, form):
    backbone = dict(SMALL_AIG, type='mmdyn.DGResNet', node_gates=True, zero_init_residual=False)
    runner = toy_runner(tmp_path, backbone, hooks=[
        dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.ComputeBudgetLoss', target=0.8)]),
        dict(type='mmdyn.PairedRoutesHook', form=form, begin=0.5)])
    gates = runner.model.backbone.gates()
    start = {name: copy.deepcopy(gate.state_dict()) for name, gate in gates.items()}
    runner.train()
    for name, gate in gates.items():
        assert not torch.equal(gate.fc2.bias, start[name]['fc2.bias']) and gate.fc2.bias.isfinite().all()
    assert runner.model.backbone.open_share == 0


def test_forced_decisions():
    backbone = built(WIRED['blocks'], node_gates=True).eval()
    images = padded_batch(2)
    with torch.no_grad():
        for word, gate, edges in (('complete', 1, True), ('chain', 1, False), ('closed', 0, None)):
            backbone.force_decisions(word)
            backbone(images)
            assert all((value == gate).all() for value in backbone.decisions.gates.values())
            if edges is not None:
                matrix = backbone.decisions.adjacency['layer3'][0] > 0
                assert matrix[0, -1].item() is edges and matrix[0, 1]
        backbone.force_decisions({'layer3.1': [0, 1], 'layer2': torch.diag(torch.ones(2), 1)})
        backbone(images)
        assert backbone.decisions.gates['layer3.1'].tolist() == [0, 1]
        assert backbone.decisions.adjacency['layer2'].sum() == 4


@pytest.mark.parametrize('options, error, message', [
    (dict(node_gates='yes'), TypeError, "node_gates must be True or False, got 'yes'"),
    (dict(target_rates=0.5), ValueError, 'target_rates is an option of node gates: expected node_gates=True with it'),
    (dict(gate=dict(norm='LN')), ValueError, 'gate is an option of node gates'),
    (dict(node_gates=True, target_rates=1.5), ValueError, r'target_rates\[1\] must lie in \[0.0, 1.0\], got 1.5'),
    (dict(node_gates=True, target_rates=[1, 0.5]), ValueError, 'target_rates must have 15 entries'),
    (dict(node_gates=True, target_rates=[0.5] * 15), ValueError,
     r"target_rates\[0\] is for block 'layer2.0', which has the input of its stage and so no gate: expected 1, got 0.5"),
    (dict(node_gates=True, target_rates=0), ValueError, "expected a rate above 0 for 'layer2.1', got 0"),
    (dict(node_gates=True, target_rates=dict(preset='suffix', keep=1, t=0.5)), ValueError, 'without groups'),
    (dict(node_gates=True, gate=dict(num_classes=3)), ValueError, 'a gate without num_classes'),
    (dict(node_gates=True, gate=dict(width=3)), ValueError, 'gate takes the options'),
    (dict(node_gates=True, open_probability='calibrated'), ValueError,
     "open_probability='calibrated': .* expected target_rates for all gated blocks"),
    (dict(column_bound=1.0), ValueError, "column_bound is for node='block'.* expected None, got 1.0"),
    (dict(node='block', column_bound=0.5), ValueError, "at least 1 with init='static', whose edges weigh 1, got 0.5"),
    (dict(node='block', init='complete', column_bound=0), ValueError, 'column_bound must be above 0'),
])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        DGMobileNetV2(**MOBILE, **options)


def test_a_backbone_without_a_stage_of_two_blocks_has_nothing_to_leave_out():

    class Shallow(DGMobileNetV2):
        arch_settings = [[expand, channels, 1, stride] for expand, channels, _, stride in DGMobileNetV2.arch_settings]

    with pytest.raises(ValueError, match='node_gates=True needs a stage of two or more blocks.* this backbone has none'):
        Shallow(**MOBILE, node_gates=True)


def test_a_gate_that_is_not_there_cannot_be_forced():
    backbone = DGMobileNetV2(**MOBILE, node_gates=True)
    with pytest.raises(ValueError, match="no wired stage 'layer3.0'; the wired stages are .*, and the nodes with gates"):
        backbone.force_decisions({'layer3.0': [1]})
    with pytest.raises(ValueError, match=r"must be \(N,\) zeros and ones"):
        backbone.force_decisions({'layer3.1': [0.5]})
    with pytest.raises(ValueError, match=r"forced decisions of block 'layer3.1' must have shape \(2,\)"):
        backbone.force_decisions({'layer3.1': [1]})
        backbone(torch.randn(2, 3, 64, 64))
