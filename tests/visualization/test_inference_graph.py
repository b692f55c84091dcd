"""What is drawn is what was decided: the drawing's data against `backbone.decisions`, and the cost account."""
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from mmdyn.backbones import AIGResNet, AIGResNetCIFAR, DGResNet
from mmdyn.cost import CostAccount, blocks_run
from mmdyn.visualization import draw_inference_graph, read_graph
from mmdyn.visualization.wired_stage import STRONGEST, drawn_edges

IMAGES = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
IMAGES += torch.tensor([-2., 0, 2]).view(3, 1, 1, 1)
SMALL = dict(base_channels=4, stem_channels=4)


def run(backbone, images: torch.Tensor = IMAGES):
    """After a forward in evaluation in which each image took its own route."""
    generator = torch.Generator().manual_seed(1)
    if backbone.gates():
        backbone.force_decisions({name: (torch.rand(len(images), generator=generator) < 0.5).float()
                                  for name in backbone.gates()})
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        backbone.eval()(images)
    return backbone


@pytest.fixture(params=['aig', 'aig_partly_gated', 'cifar', 'dg', 'branches', 'blocks'])
def backbone(request):
    if request.param == 'aig':
        return run(AIGResNet(18, **SMALL))
    if request.param == 'aig_partly_gated':
        return run(AIGResNet(50, target_rates=dict(preset='paper', t=0.5), **SMALL))
    if request.param == 'cifar':
        return run(AIGResNetCIFAR(20, base_channels=4))
    if request.param == 'dg':
        return run(DGResNet(50, threshold=0.9, **SMALL))
    node = dict(branches='branch', blocks='block')[request.param]
    return run(DGResNet(50, node=node, init='complete', node_gates=True, **SMALL))


def test_the_graph_is_what_was_decided(backbone):
    account = CostAccount(backbone)
    decisions = backbone.decisions
    routes = torch.stack(list(blocks_run(decisions).values()), dim=1)
    assert not torch.equal(routes[0], routes[2]), 'images must differ for this to tell anything'
    for image in range(len(decisions)):
        graph = read_graph(backbone, image)
        ran = {block.name: block.ran for block in graph.blocks if block.optional}
        assert ran == {name: bool(value[image]) for name, value in blocks_run(decisions).items()}
        assert all(block.ran for block in graph.blocks if not block.optional)
        wired = {stage.name: stage.adjacency for stage in graph.stages if stage.adjacency is not None}
        assert wired.keys() == decisions.adjacency.keys()
        for name, adjacency in wired.items():
            assert np.array_equal(adjacency, decisions.adjacency[name][image].numpy())
        assert graph.cost == account.images(decisions)[image]


def test_what_did_not_run_was_saved(backbone):
    graph = read_graph(backbone)
    saved = sum(block.gmacs for block in graph.blocks if not block.ran)
    assert graph.cost.macs / 1e9 == pytest.approx(graph.cost.dense_macs / 1e9 - saved)


def test_every_block_is_there():
    graph = read_graph(run(AIGResNet(50, target_rates=dict(preset='paper', t=0.5), **SMALL)))
    assert [len(stage.blocks) for stage in graph.stages] == [3, 4, 6, 3]
    optional = [block.optional for block in graph.blocks]
    assert optional == [rate != 1 for rate in (1, 1, .8, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, .7, 1)]


def test_forced_decisions():
    backbone = AIGResNet(18, **SMALL).eval()
    backbone.force_decisions('closed')
    backbone(IMAGES)
    assert not any(block.ran for block in read_graph(backbone).blocks)


def test_a_batch_gives_each_image_its_own_size():
    images = torch.zeros(2, 3, 128, 128)
    images[0], images[1, :, :64, :64] = torch.randn(3, 128, 128), torch.randn(3, 64, 64)
    backbone = run(AIGResNet(18, **SMALL), images)
    large, small = (read_graph(backbone, image).cost.dense_macs for image in range(2))
    assert large == CostAccount(backbone).dense_macs((128, 128)) and small == CostAccount(backbone).dense_macs((64, 64))


def test_refusals():
    backbone = AIGResNet(18, **SMALL)
    with pytest.raises(RuntimeError, match='AIGResNet has decided nothing yet'):
        read_graph(backbone)
    with pytest.raises(IndexError, match='one of 3 images, got 3'):
        read_graph(run(backbone), 3)
    graph = read_graph(backbone)
    for image in (np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3))):
        with pytest.raises(ValueError, match='RGB of uint8, got'):
            draw_inference_graph(graph, image)


def test_arcs_of_a_small_stage_are_all_its_open_edges():
    adjacency = np.array([[0, .5, 0, .2], [0, 0, .7, .1], [0, 0, 0, .9], [0, 0, 0, 0]])
    assert set(drawn_edges(adjacency, few=8)) == {(0, 1), (1, 2), (0, 3), (1, 3), (2, 3)}


def test_arcs_of_a_large_stage_are_the_strongest_into_each_node():
    adjacency = np.triu(np.random.default_rng(0).random((24, 24)), 1)
    adjacency[:, 5] = adjacency[5] = 0
    edges = drawn_edges(adjacency, few=8)
    for node in range(1, 24):
        into = {i for i, j in edges if j == node}
        strongest = set(np.argsort(-adjacency[:, node])[:STRONGEST]) if node != 5 else set()
        assert into == {i for i in strongest if adjacency[i, node] > 0}


@pytest.mark.parametrize('build', [AIGResNet, DGResNet])
def test_pictures(build):
    backbone = run(build(18, **SMALL))
    pictures = [draw_inference_graph(read_graph(backbone, n), np.full((64, 96, 3), 128, np.uint8)) for n in (0, 2)]
    assert all(picture.shape[2] == 3 and picture.dtype == np.uint8 for picture in pictures)
    assert not np.array_equal(*pictures)


def test_blocks_are_numbered_as_they_are_called_where_some_are_left_out(monkeypatch):
    texts, write = [], Axes.text
    monkeypatch.setattr(Axes, 'text', lambda axes, x, y, text, **options: texts.append(text) or write(
        axes, x, y, text, **options))
    backbone = run(AIGResNetCIFAR(20, target_rates=[1, 0, 1] + [1] * 6))
    draw_inference_graph(read_graph(backbone), np.full((64, 96, 3), 128, np.uint8))
    assert [text for text in texts if text.isdigit()] == ['0', '2', '0', '1', '2', '0', '1', '2']
