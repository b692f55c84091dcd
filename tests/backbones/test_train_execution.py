"""Training that skips: exact gradients of the weights, unbiased ones of the decisions, and refusals."""
import os
from functools import partial

import pytest
import torch
from aig_cases import images_run, randomize_gates

from mmdyn.analysis.timing import saved_bytes
from mmdyn.backbones import AIGMobileNetV2, AIGResNet, DGMobileNetV2, DGResNet
from mmdyn.layers.gated_stage import GatedBlock

DRAWS = 20_000 if os.environ.get('MMDYN_TEST_ALL') else 600
SMALL = dict(depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
             norm_eval=True)
FAMILIES = [
    (AIGResNet, SMALL),
    (AIGResNet, dict(depth=50, base_channels=4, norm_eval=True)),
    (AIGMobileNetV2, dict(out_indices=(1, 2, 4, 6), norm_eval=True)),
    (AIGResNet, dict(SMALL, norm_cfg=dict(type='GN', num_groups=2), norm_eval=False)),
    (AIGResNet, dict(SMALL, with_cp=True)),
]
NODES = dict(SMALL, depth=50, node_gates=True)  # stages of three and four nodes
WIRED = [
    (DGResNet, NODES),
    (DGResNet, dict(NODES, node='block', init='complete')),
    (DGResNet, dict(NODES, node='block', init='complete', column_bound=1.0, target_rates=[1, .5, 1, 1, .5, 1, .5])),
    (DGResNet, dict(NODES, norm_cfg=dict(type='GN', num_groups=2), norm_eval=False)),
    (DGResNet, dict(NODES, with_cp=True)),
    (DGResNet, dict(NODES, with_cp=True, node='block')),
    (DGMobileNetV2, dict(widen_factor=0.25, norm_eval=True, node_gates=True)),
]


def build(family=AIGResNet, options=SMALL, **more):
    torch.manual_seed(0)
    backbone = family(**options, **more).double().train()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1)
    randomize_gates(backbone)
    for decider in set(backbone.deciders()).difference(backbone.gates().values()):  # routers: a few edges are closed
        torch.nn.init.normal_(decider.weight, std=0.05)
    backbone.losses_attached = True
    return backbone


def forced(backbone, images: int, rate: float = 0.5) -> dict:
    generator = torch.Generator().manual_seed(3)
    return {name: (torch.rand(images, generator=generator) < rate).float() for name in backbone.gates()}


def gradients(backbone, images, execution):
    backbone.train_execution = execution
    backbone.zero_grad()
    features = backbone(images)
    decisions = list(backbone.decisions.gates.values())
    for decision in decisions:
        decision.retain_grad()
    losses = [maps.square().mean() for maps in features] + list(map(wiring_loss, backbone.decisions.adjacency.values()))
    sum(losses).backward()
    weights = {name: p.grad for name, p in backbone.named_parameters() if '.gate.' not in name and p.requires_grad}
    return [maps.detach() for maps in features], weights, torch.stack([d.grad for d in decisions])


def wiring_loss(adjacency):
    """Of what is decided and not of the maps: training that skips has no part in its gradient."""
    return (adjacency * torch.arange(adjacency.numel()).view_as(adjacency)).mean()


def without_gate_paths(backbone):
    """What gates read gives no gradient to the features, so that the weights' gradients can be compared."""
    for gate in backbone.gates().values():
        for parameter in gate.fc1.parameters():
            torch.nn.init.zeros_(parameter)


@pytest.mark.parametrize('family, options', FAMILIES + WIRED)
def test_features_and_gradients_of_the_weights_are_those_of_the_masked_network(family, options):
    backbone = build(family, options)
    without_gate_paths(backbone)
    images = torch.randn(4, 3, 64, 64).double()
    backbone.force_decisions(forced(backbone, 4))
    wanted, wanted_grads, _ = gradients(backbone, images, 'mask')
    features, grads, _ = gradients(backbone, images, 'skip')
    for maps, wanted_maps in zip(features, wanted):
        torch.testing.assert_close(maps, wanted_maps, rtol=1e-12, atol=1e-12)
    for name, grad in wanted_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name} {text}')


@pytest.mark.parametrize('family, options', [FAMILIES[0], *WIRED[:2]])
def test_the_gradient_of_the_decisions_is_unbiased(family, options):
    backbone = build(family, options, exploration=0.25)
    without_gate_paths(backbone)
    images = torch.randn(2, 3, 16, 16).double()
    backbone.force_decisions(forced(backbone, 2))
    _, _, wanted = gradients(backbone, images, 'mask')
    torch.manual_seed(5)
    draws = torch.stack([gradients(backbone, images, 'skip')[2] for _ in range(DRAWS)])
    error = draws.std(dim=0) / len(draws)**0.5
    assert error.max() > 0  # something was drawn, and something was not
    assert ((draws.mean(dim=0) - wanted).abs() <= 4 * error + 1e-12).all()


def test_what_gates_read_has_the_same_gradient_whether_hooks_look_on_or_not():
    backbone = build(*FAMILIES[0])
    for gate in backbone.gates().values():
        torch.nn.init.normal_(gate.fc2.weight)  # so that gradients through the averages weigh
    images = torch.randn(5, 3, 64, 64).double()
    backbone.force_decisions(forced(backbone, 5))
    torch.manual_seed(5)
    alone = gradients(backbone, images, 'skip')[1]  # written to in place
    handle = backbone.layer1[0].register_forward_hook(lambda module, args, out: None)
    torch.manual_seed(5)
    looked_at = gradients(backbone, images, 'skip')[1]
    handle.remove()
    without_gate_paths(backbone)
    torch.manual_seed(5)
    without = gradients(backbone, images, 'skip')[1]
    for name, grad in looked_at.items():
        torch.testing.assert_close(alone[name], grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f'{name} {text}')
    assert not torch.allclose(alone['conv1.weight'], without['conv1.weight'], rtol=1e-6)


@pytest.mark.parametrize('family, options', [FAMILIES[0], *WIRED[:3]])
def test_with_exploration_1_nothing_is_left_out_and_all_is_equal(family, options):
    backbone = build(family, options, exploration=1.0)
    without_gate_paths(backbone)
    images = torch.randn(3, 3, 32, 32).double()
    backbone.force_decisions(forced(backbone, 3))
    wanted = gradients(backbone, images, 'mask')
    ours = gradients(backbone, images, 'skip')
    assert all(map(torch.equal, ours[0], wanted[0]))
    equal = torch.equal if family is AIGResNet else partial(torch.allclose, rtol=1e-12, atol=1e-12)  # sums in another order
    assert equal(ours[2], wanted[2]) and all(equal(grad, wanted[1][name]) for name, grad in ours[1].items())


@pytest.mark.parametrize('family, options', [FAMILIES[0], *WIRED[:2]])
def test_closed_blocks_run_on_what_was_drawn_alone(family, options):
    backbone = build(family, options, exploration=0.3, train_execution='skip')
    images = torch.randn(40, 3, 16, 16).double()
    backbone.force_decisions('closed')
    backbone.blocks = backbone.blocks_left_out().items
    assert images_run(backbone, images) == {}  # without gradient, nobody learns from what is closed
    counts = []
    for _, block in backbone.blocks():
        block.conv1.register_forward_hook(lambda module, args, out: counts.append(len(out)))
    backbone(images)
    assert len(counts) == len(backbone.gates()) and all(3 <= count <= 21 for count in counts)


@pytest.mark.parametrize('family, options', [FAMILIES[0], *WIRED])
def test_a_block_that_runs_on_no_image_has_gradients_of_zero(family, options):
    backbone = build(family, options, exploration=1e-9)
    without_gate_paths(backbone)
    backbone.force_decisions('closed')
    gradients(backbone, torch.randn(1, 3, 32, 32).double(), 'skip')
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.requires_grad)
    for name, block in backbone.blocks_left_out().items():
        for key, parameter in block.named_parameters():
            if not key.startswith(('downsample', 'gate.', 'router.')):
                assert torch.equal(parameter.grad, torch.zeros_like(parameter)), f'{name}.{key}'


def test_the_logged_open_rate_means_what_it_did():
    backbone = build(exploration=0.5, train_execution='skip')
    backbone.force_decisions({name: torch.tensor([1.0, 0, 0, 0]) for name in backbone.gates()})
    backbone(torch.randn(4, 3, 16, 16).double())
    assert all(gate.mean() == 0.25 for gate in backbone.decisions.gates.values())


def test_what_is_left_out_is_not_kept_for_the_backward_pass():
    backbone, images = build(*WIRED[0], exploration=1e-9), torch.randn(4, 3, 32, 32).double()
    sizes = []
    for execution, word in (('mask', 'closed'), ('skip', 'closed'), ('skip', 'open')):
        backbone.train_execution = execution
        backbone.force_decisions(word)
        sizes.append(saved_bytes(backbone, lambda: backbone(images)[0].sum()))
    masked, closed, opened = sizes
    assert opened == pytest.approx(masked, rel=0.01) and masked > 1.2 * closed


def test_a_wired_backbone_without_gates_has_nothing_to_skip():
    for options in (dict(SMALL), dict(NODES, target_rates=1)):
        with pytest.raises(ValueError, match='expected node_gates=True with target_rates below 1.* no node of this'):
            DGResNet(**options, train_execution='skip')
    backbone = DGResNet(**SMALL)
    with pytest.raises(ValueError, match='no node of this backbone has a gate'):
        backbone.train_execution = 'skip'
    assert backbone.train_execution == 'mask'
    training = DGResNet(**dict(NODES, norm_eval=False), train_execution='skip')
    with pytest.raises(ValueError, match=r'frozen norms \(norm_eval=True\), got bn1 of layer1.1 in training'):
        training.train()
    with pytest.raises(ValueError, match="train_execution must be one of .* got 'jump'"):
        DGResNet(**NODES, train_execution='jump')
    with pytest.raises(ValueError, match=r'exploration must lie in \(0, 1\], got 0'):
        DGResNet(**NODES, exploration=0)


def test_bad_options():
    with pytest.raises(ValueError, match='exploration must lie in'):
        AIGResNet(**SMALL, exploration=1.5)
    with pytest.raises(ValueError, match=r'exploration must lie in \(0, 1\], got 0'):
        AIGResNet(**SMALL, exploration=0)
    with pytest.raises(ValueError, match="train_execution must be one of .* got 'jump'"):
        AIGResNet(**SMALL, train_execution='jump')
    training = AIGResNet(**dict(SMALL, norm_eval=False), train_execution='skip')
    with pytest.raises(ValueError, match=r'frozen norms \(norm_eval=True\), got bn1 of layer1.0 in training'):
        training.train()
    assert any(isinstance(block, GatedBlock) for _, block in training.blocks())
