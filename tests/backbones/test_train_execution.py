"""Training that skips: exact gradients of the weights, unbiased ones of the decisions, and refusals."""
import os

import pytest
import torch
from aig_cases import images_run, randomize_gates

from mmdyn.backbones import AIGMobileNetV2, AIGResNet
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


def build(family=AIGResNet, options=SMALL, **more):
    torch.manual_seed(0)
    backbone = family(**options, **more).double().train()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1)
    randomize_gates(backbone)
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
    sum(maps.square().mean() for maps in features).backward()
    weights = {name: p.grad for name, p in backbone.named_parameters() if '.gate.' not in name and p.requires_grad}
    return [maps.detach() for maps in features], weights, torch.stack([d.grad for d in decisions])


def without_gate_paths(backbone):
    """What gates read gives no gradient to the features, so that the weights' gradients can be compared."""
    for gate in backbone.deciders():
        for parameter in gate.fc1.parameters():
            torch.nn.init.zeros_(parameter)


@pytest.mark.parametrize('family, options', FAMILIES)
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


def test_the_gradient_of_the_decisions_is_unbiased():
    backbone = build(exploration=0.25)
    without_gate_paths(backbone)
    images = torch.randn(2, 3, 16, 16).double()
    backbone.force_decisions(forced(backbone, 2))
    _, _, wanted = gradients(backbone, images, 'mask')
    torch.manual_seed(5)
    draws = torch.stack([gradients(backbone, images, 'skip')[2] for _ in range(DRAWS)])
    error = draws.std(dim=0) / len(draws)**0.5
    assert error.max() > 0  # something was drawn, and something was not
    assert ((draws.mean(dim=0) - wanted).abs() <= 4 * error + 1e-12).all()


def test_with_exploration_1_nothing_is_left_out_and_all_is_equal():
    backbone = build(exploration=1.0)
    without_gate_paths(backbone)
    images = torch.randn(3, 3, 32, 32).double()
    backbone.force_decisions(forced(backbone, 3))
    wanted = gradients(backbone, images, 'mask')
    ours = gradients(backbone, images, 'skip')
    assert all(map(torch.equal, ours[0], wanted[0])) and torch.equal(ours[2], wanted[2])


def test_closed_blocks_run_on_what_was_drawn_alone():
    backbone = build(exploration=0.3, train_execution='skip')
    images = torch.randn(40, 3, 16, 16).double()
    backbone.force_decisions('closed')
    with torch.enable_grad():
        ran = images_run(backbone, images)
    assert ran == {}  # without gradient, nobody learns from what is closed
    counts = []
    for _, block in backbone.blocks():
        block.conv1.register_forward_hook(lambda module, args, out: counts.append(len(out)))
    backbone(images)
    assert len(counts) == 4 and all(3 <= count <= 21 for count in counts)


def test_a_block_that_runs_on_no_image_has_gradients_of_zero():
    backbone = build(exploration=1e-9)
    without_gate_paths(backbone)
    backbone.force_decisions('closed')
    _, grads, _ = gradients(backbone, torch.randn(1, 3, 32, 32).double(), 'skip')
    for name, block in backbone.blocks():
        for key, parameter in block.named_parameters():
            if 'downsample' not in key and '.gate.' not in f'.{key}':
                assert torch.equal(parameter.grad, torch.zeros_like(parameter)), f'{name}.{key}'


def test_the_logged_open_rate_means_what_it_did():
    backbone = build(exploration=0.5, train_execution='skip')
    backbone.force_decisions({name: torch.tensor([1.0, 0, 0, 0]) for name in backbone.gates()})
    backbone(torch.randn(4, 3, 16, 16).double())
    assert all(gate.mean() == 0.25 for gate in backbone.decisions.gates.values())


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
