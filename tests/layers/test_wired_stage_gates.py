"""Gates and bounds of a wired stage: forward and backward equal a naive reference; skip = mask; alone = in a batch."""
import copy

import pytest
import torch
from torch import nn
from wired_cases import KINDS, SIZE, Pass, assert_same, blocks, gradients, naive, run, whole

from mmdyn.functional.graph import column_scale
from mmdyn.layers import node_maps

X = torch.randn(3, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OPTIONS = {'gates': dict(gates=True), 'bound': dict(column_bound=1.0), 'both': dict(gates=True, column_bound=1.0)}


@pytest.mark.parametrize('variant', ['plain', 'groups', 'checkpoint', 'traced'])
@pytest.mark.parametrize('node, options', [('branch', 'gates'), *(('block', options) for options in OPTIONS)])
@pytest.mark.parametrize('kind', ['basic', 'inverted'])
def test_forward_and_all_gradients_equal_the_naive_reference(kind, node, options, variant, monkeypatch):
    torch.manual_seed(KINDS.index(kind))
    stage = blocks(kind, nodes=6, **OPTIONS[options]).train()
    reference = copy.deepcopy(stage)
    if variant in ('groups', 'checkpoint'):
        monkeypatch.setattr(node_maps, '_GROUP', 2)
    elif variant == 'traced':
        monkeypatch.setattr('mmdyn.layers.wired_stage.is_traced', lambda: True)
    ours = gradients(lambda s, x: run(s, x, node, threshold=0.2, with_cp=variant == 'checkpoint'), stage, X)
    theirs = gradients(lambda s, x: naive(s, x, node, threshold=0.2), reference, X)
    if stage.column_bound is not None:
        columns = theirs[1].sum(dim=1)
        assert columns.max() < 1 + 1e-12 and ((columns - 1).abs() < 1e-12).any() and ((columns > 0) & (columns < 1)).any()
    assert_same(ours, theirs)
    if hasattr(stage[1], 'gate'):
        assert sum(block.gate.fc1.weight.grad.any().item() for block in list(stage)[1:]) > 2


def test_gradient_of_a_bound():
    """Its derivative is the true one, also through the total that all edges into a vertex share."""
    torch.manual_seed(0)
    stage = blocks('basic', nodes=3, channels=4, threshold_spread=0.3, column_bound=0.7).eval()
    x = X[:2, :, :3, :3].clone().requires_grad_()
    routers = [block.router for block in stage]
    values = [router.bias.detach().clone().requires_grad_() for router in routers]

    def function(x, *biases):
        for router, bias in zip(routers, biases):
            router._parameters.pop('bias', None)
            router.bias = bias
        return run(stage, x, 'block', threshold=0.0, pool=lambda y: y.mean((2, 3)))

    assert torch.autograd.gradcheck(function, (x, *values), atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('threshold', [0.0, 0.4, 1.9])
@pytest.mark.parametrize('node, options', [('branch', 'gates'), ('block', 'gates'), ('block', 'both')])
def test_skipping_equals_masking_and_an_image_alone_equals_its_row(kind, node, options, threshold):
    torch.manual_seed(3)
    stage = blocks(kind, nodes=5, **OPTIONS[options]).eval()
    with torch.no_grad():
        wanted, adjacency = run(stage, X, node, threshold=threshold, pool=Pass().cropped)
        for observed in (False, False, True):
            if observed:
                stage[1].register_forward_hook(lambda *_: None)
            out, skipped = run(stage, X, node, threshold=threshold, skips=True)
            assert torch.equal(adjacency > 0, skipped > 0)
            torch.testing.assert_close(skipped, adjacency, rtol=1e-10, atol=0)
            torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-12)
        alone, row = run(stage, X[:1], node, threshold=threshold, skips=True)
        torch.testing.assert_close(alone, wanted[:1], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(row, adjacency[:1], rtol=1e-10, atol=0)


def decided(gates: list[list[int]]):
    """A pass in which each node's gate decides so, image by image."""
    made = Pass(skips=True, threshold=0.1)
    made.decide_from = lambda name, gate, pooled: torch.tensor(gates[int(name[-1]) - 1], dtype=pooled.dtype)
    return made


@pytest.mark.parametrize('node', ['branch', 'block'])
def test_a_branch_runs_for_the_images_that_its_gate_is_open_for(node):
    stage, seen = blocks('basic', nodes=4, threshold_spread=0.0, gates=True).eval(), {}
    stage.whole_blocks = node == 'block'
    for i, block in enumerate(stage):
        block.conv1.register_forward_hook(lambda module, args, out, i=i: seen.setdefault(i, []).append(len(out)))
    with torch.no_grad():
        stage(X, forward_pass=decided([[0, 1, 1], [1, 0, 1], [0, 0, 0]]))
    assert {i: sum(images) for i, images in seen.items()} == {0: 3, 1: 2, 2: 2}


@pytest.mark.parametrize('kind', KINDS)
def test_a_whole_block_whose_gate_is_shut_hands_on_what_it_reads(kind):
    """In a chain, what is left of the stage is a residual network without that block."""
    stage = blocks(kind, nodes=3, gates=True).eval()
    stage.whole_blocks = True
    forward_pass = decided([[0, 1, 0], [1, 0, 0]])
    forward_pass.forced = torch.diag(torch.ones(3, dtype=torch.float64), 1)[None]
    with torch.no_grad():
        out = stage(X, forward_pass=forward_pass)
        first = naive_chain(stage, X, [])
        for n, rest in enumerate([[2], [1], []]):
            torch.testing.assert_close(out[n], naive_chain(stage, X, rest)[n], rtol=1e-12, atol=1e-12)
        assert torch.equal(out[2], first[2])


def naive_chain(stage, x, nodes):
    for i in [0, *nodes]:
        x = whole(stage[i], x)
    return x


def test_what_a_shut_branch_gave_is_missing_in_every_sum():
    """Nothing is made up for it, as in a residual network that loses a block."""
    stage = blocks('inverted', nodes=3, gates=True).eval()
    stage.whole_blocks = False
    for block in stage:
        nn.init.zeros_(block.router.weight), nn.init.zeros_(block.router.bias)  # every edge weighs 1
    with torch.no_grad():
        out = stage(X, forward_pass=decided([[0, 1, 0], [1, 0, 0]]))
        for n, rest in enumerate([[2], [1], []]):
            torch.testing.assert_close(out[n], naive_chain(stage, X, rest)[n], rtol=1e-12, atol=1e-12)


def test_a_node_is_dead_too_if_shut_gates_have_closed_all_edges_into_it():
    stage = blocks('basic', nodes=3, gates=True).eval()
    stage.whole_blocks = False
    forward_pass = decided([[0, 1, 1], [1, 1, 1]])
    forward_pass.forced = torch.tensor([[[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]]).double()
    with torch.no_grad():
        stage(X, forward_pass=forward_pass)
    adjacency = forward_pass.decisions.adjacency['layer1']
    assert torch.equal(adjacency[0], torch.tensor([[0, 0, 0, 1]] + [[0] * 4] * 3).double())
    assert torch.equal(adjacency[1:], forward_pass.forced.expand(2, -1, -1))


def test_open_gates_are_as_if_there_were_none():
    for node in ('branch', 'block'):
        for training in (True, False):
            torch.manual_seed(0)
            gated = blocks('bottleneck', nodes=5, gates=True).train(training)
            plain = copy.deepcopy(gated)
            for block in list(plain)[1:]:
                del block.gate
            results = []
            for stage in (gated, plain):
                forward_pass = decided([[1, 1, 1]] * 4)
                forward_pass.skips, stage.whole_blocks = not training, node == 'block'
                with torch.set_grad_enabled(training):
                    out = stage(X, forward_pass=forward_pass)
                if training:
                    out.square().sum().backward()
                results.append([out, forward_pass.decisions.adjacency['layer1'],
                                *(p.grad for n, p in stage.named_parameters() if '.gate.' not in n and training)])
            assert all(torch.equal(a, b) for a, b in zip(*results)), (node, training)


def test_the_scale_of_a_column():
    weights = torch.tensor([[0.25, 0.5], [1.0, 1.0], [0.0, 0.0], [0.5, 0.5]])
    assert column_scale(weights, 1.0).tolist() == [1.0, 0.5, 1.0, 1.0]
