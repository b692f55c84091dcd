"""Wired stages: forward and backward equal a naive reference; alone = in a batch; skip = mask."""
import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from wired_cases import KINDS, SIZE, Pass, assert_same, blocks, gradients, naive, run

from mmdyn.functional.graph import chain_adjacency
from mmdyn.layers import node_maps
from mmdyn.layers.residual import Residual
from mmdyn.layers.workspace import Workspace


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('node', ['branch', 'block'])
@pytest.mark.parametrize('variant', [
    'plain', 'groups', 'channels_last', 'eval_norm', 'checkpoint', 'hooks', 'traced'])
def test_forward_and_all_gradients_equal_the_naive_reference(kind, node, variant, monkeypatch):
    torch.manual_seed(KINDS.index(kind))
    stage = blocks(kind, nodes=6 if variant in ('groups', 'checkpoint') else 4)
    stage.train(variant != 'eval_norm')
    reference = copy.deepcopy(stage)
    x = torch.randn(3, 3, *SIZE, dtype=torch.float64)
    kwargs = {}
    if variant == 'groups':
        monkeypatch.setattr(node_maps, '_GROUP', 2)
    elif variant == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    elif variant == 'checkpoint':
        monkeypatch.setattr(node_maps, '_GROUP', 3)
        kwargs = dict(with_cp=True)
    elif variant == 'traced':
        monkeypatch.setattr('mmdyn.layers.wired_stage.is_traced', lambda: True)
    elif variant == 'hooks':  # that use what they see, and replace it
        for block in stage:
            Residual(block).first_conv.register_forward_hook(lambda module, args, out: out + 0)
            block.register_forward_hook(lambda module, args, out: out * 1)
    ours = gradients(lambda s, x: run(s, x, node, **kwargs), stage, x)
    theirs = gradients(lambda s, x: naive(s, x, node), reference, x)
    assert 0 < (theirs[1] > 0).double().mean() < 0.4  # some edges are closed
    assert_same(ours, theirs)


@pytest.mark.parametrize('node', ['branch', 'block'])
def test_gradcheck(node):
    torch.manual_seed(0)
    stage = blocks('basic', nodes=3, channels=4, threshold_spread=0.3).eval()
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in stage.named_parameters() if 'router' in name or 'conv1' in name]

    def function(x, *values):
        for name, value in zip(names, values):
            owner, leaf = name.rsplit('.', 1)
            module = stage.get_submodule(owner)
            if leaf in module._parameters:
                del module._parameters[leaf]
            setattr(module, leaf, value)
        # Without a threshold, so that the straight-through gradient is the true one.
        return run(stage, x, node, threshold=0.0, pool=lambda y: y.mean((2, 3)))

    values = [dict(stage.named_parameters())[n].detach().clone().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(function, (x, *values), atol=1e-6, fast_mode=False)


@pytest.mark.parametrize('node', ['branch', 'block'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('threshold', [0.0, 0.4, 1.0, 1.9])
def test_skipping_equals_masking_and_an_image_alone_equals_its_row(kind, node, threshold):
    torch.manual_seed(3)
    stage = blocks(kind, nodes=5).eval()
    x = torch.randn(3, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        wanted, adjacency = run(stage, x, node, threshold=threshold, pool=Pass().cropped)
        for observed in (False, False, True):
            if observed:
                stage[1].register_forward_hook(lambda *_: None)
            out, skipped = run(stage, x, node, threshold=threshold, skips=True)
            assert torch.equal(adjacency > 0, skipped > 0)
            assert torch.allclose(adjacency, skipped, rtol=1e-10)
            assert torch.allclose(out, wanted, rtol=1e-10, atol=1e-12)
        alone, row = run(stage, x[:1], node, threshold=threshold, skips=True)
        assert torch.allclose(alone, wanted[:1], rtol=1e-10, atol=1e-12)
        assert torch.allclose(row, adjacency[:1])
    if threshold == 1.9:
        assert (adjacency[:, :, 1:-1].sum(1) == 0).any()  # some nodes are dead


def test_dead_nodes_do_not_run_for_the_images_that_they_are_dead_for():
    stage = blocks('basic', nodes=4).eval()
    forced = chain_adjacency(4).repeat(3, 1, 1)
    forced[0] = 0
    forced[0, 0, 4] = 1    # image 0: the input node only
    forced[1, 1, 2] = 0
    forced[1, 1, 3] = 0.5  # image 1: node 2 is dead
    seen = {}
    for i, block in enumerate(stage):
        block.conv1.register_forward_hook(
            lambda module, args, out, i=i: seen.__setitem__(i, len(args[0])))
    x = torch.randn(3, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        run(stage, x, 'block', forced=forced, skips=True)
    assert seen == {0: 3, 1: 2, 2: 1, 3: 2}


def test_one_open_edge_of_weight_1_is_read_without_a_copy():
    stage = blocks('basic', nodes=3).eval()
    read = []
    stage[1].conv1.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    stage[2].conv1.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    y = []
    stage[0].register_forward_hook(lambda module, args, out: y.append(out))
    stage[1].register_forward_hook(lambda module, args, out: y.append(out))
    with torch.no_grad():
        run(stage, torch.randn(3, 3, *SIZE, dtype=torch.float64), 'block', forced=chain_adjacency(3)[None], skips=True)
    assert [x.data_ptr() for x in read] == [x.data_ptr() for x in y]


def test_a_router_whose_edges_are_all_closed_still_gets_gradient():
    torch.manual_seed(0)
    stage = blocks('basic', nodes=3)
    x = torch.randn(3, 3, *SIZE, dtype=torch.float64)
    for block in stage:
        nn.init.zeros_(block.router.weight)
        nn.init.constant_(block.router.bias, -2.0)
    out, adjacency = run(stage, x, 'block', threshold=1.5)
    assert (adjacency > 0).sum().item() == 3  # only the output's strongest edge, image by image
    out.square().sum().backward()
    assert stage[0].router.bias.grad[-1] != 0
    assert all(p.grad is not None for p in stage.parameters())


def kept_bytes(function):
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return sum(storages.values()), result


def test_keeps_the_node_outputs_once_and_lets_go_of_them(monkeypatch):
    stage, x = blocks('inverted', nodes=6), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    naive_bytes, _ = kept_bytes(lambda: naive(stage, x, 'block'))
    ours, (out, _) = kept_bytes(lambda: run(stage, x, 'block'))
    checkpointed, _ = kept_bytes(lambda: run(stage, x, 'block', with_cp=True))
    a_map = out.numel() * out.element_size()
    assert ours < naive_bytes - 6 * a_map
    assert checkpointed < ours / 2 and checkpointed < 9 * a_map
    made = []

    class Remembered(node_maps.NodeMaps):

        def allocate(self, like):
            super().allocate(like)
            made.append(weakref.ref(self))

    monkeypatch.setattr('mmdyn.layers.wired_stage.NodeMaps', Remembered)
    gc.disable()
    try:
        for with_cp in (False, True):
            made.clear()
            out, adjacency = run(stage, x, 'block', with_cp=with_cp)
            assert made[0]() is not None
            loss = out.sum()
            loss.backward()
            assert made[0]() is None  # although the loss, and so its graph, is still alive; and no reference cycle
            out, adjacency = run(stage, x, 'block', with_cp=with_cp)
            del out, adjacency, loss
            assert made[1]() is None
    finally:
        gc.enable()


def test_a_second_backward_needs_retain_graph():
    stage, x = blocks('basic'), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    out, _ = run(stage, x, 'block')
    loss = out.square().sum()
    loss.backward(retain_graph=True)
    first = {n: p.grad.clone() for n, p in stage.named_parameters()}
    loss.backward()
    for name, parameter in stage.named_parameters():
        assert torch.allclose(parameter.grad, 2 * first[name])
    with pytest.raises(RuntimeError, match='second time'):
        loss.backward()


@pytest.mark.parametrize('part', ['output', 'adjacency'])
def test_a_loss_on_one_of_the_results_is_enough(part):
    stage, x = blocks('basic'), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    reference = copy.deepcopy(stage)
    index = ['output', 'adjacency'].index(part)
    run(stage, x, 'block')[index].square().sum().backward()
    naive(reference, x, 'block')[index].square().sum().backward()
    for (name, ours), theirs in zip(stage.named_parameters(), reference.parameters()):
        if theirs.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-10), name


def test_frozen_blocks_leave_the_routers_their_gradient():
    stage, x = blocks('bottleneck'), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    for name, parameter in stage.named_parameters():
        parameter.requires_grad_('router' in name)
    reference = copy.deepcopy(stage)
    run(stage, x, 'block')[0].square().sum().backward()
    naive(reference, x, 'block')[0].square().sum().backward()
    for (name, ours), theirs in zip(stage.named_parameters(), reference.parameters()):
        if 'router' in name:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-10), name


def test_autocast_stays_close_to_float32_and_routes_in_float32():
    torch.manual_seed(0)
    stage = blocks('bottleneck', channels=16, threshold_spread=0.1).float()
    x = torch.randn(3, 3, *SIZE)
    exact = gradients(lambda s, x: run(s, x, 'block'), stage, x)
    with torch.autocast('cpu', torch.bfloat16):
        out, adjacency = run(stage, x, 'block')
        features = out.float()
    assert out.dtype == torch.bfloat16 and adjacency.dtype == torch.float32
    assert torch.allclose(features, exact[0], atol=0.3, rtol=0.1)
    stage.zero_grad()
    features.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32
               for p in stage.parameters())


def test_a_map_of_one_cell():
    stage, x = blocks('basic').eval(), torch.randn(3, 3, 1, 1, dtype=torch.float64)
    out, _ = run(stage, x, 'branch', pool=lambda y: y.mean((2, 3)))
    out.sum().backward()
    assert out.shape == (3, 8, 1, 1)


@pytest.mark.parametrize('group', [2, 8])
def test_backward_passes_that_do_not_begin_at_the_output_or_end_on_the_way(group, monkeypatch):
    """A loss on what a hook sees of a node, after a backward pass that was cut short: nothing of that is left."""
    monkeypatch.setattr(node_maps, '_GROUP', group)
    stage, x = blocks('basic', nodes=5), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    seen = {}
    for i, block in enumerate(stage):
        block.register_forward_hook(lambda module, args, out, i=i: seen.__setitem__(i, out))
    out, _ = run(stage, x, 'block')
    for i in (4, 3, 2, 1):
        torch.autograd.grad(out.sum(), seen[i], retain_graph=True)
        stage.zero_grad()
        seen[i].square().sum().backward(retain_graph=True)
        ours = [None if p.grad is None else p.grad.clone() for p in stage.parameters()]
        again, _ = run(stage, x, 'block')
        fresh = seen[i]
        seen.clear()
        stage.zero_grad()
        fresh.square().sum().backward()
        for mine, parameter in zip(ours, stage.parameters()):
            assert (mine is None) == (parameter.grad is None)
            if mine is not None:
                torch.testing.assert_close(mine, parameter.grad, rtol=1e-10, atol=1e-12)
        stage.zero_grad()
        out, _ = run(stage, x, 'block')


def test_no_gradient_of_a_gradient():
    stage, x = blocks('basic'), torch.randn(3, 3, *SIZE, dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(run(stage, x, 'block')[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


@pytest.mark.filterwarnings('ignore:Anomaly Detection')
def test_anomaly_detection_does_not_take_fresh_memory_for_a_gradient(monkeypatch):
    stage, x = blocks('basic'), torch.randn(3, 3, *SIZE, dtype=torch.float64)
    monkeypatch.setattr(Workspace, 'take', lambda self, like, shape: like.new_full(shape, float('nan')))
    with torch.autograd.detect_anomaly():
        run(stage, x, 'block')[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in stage.parameters())
