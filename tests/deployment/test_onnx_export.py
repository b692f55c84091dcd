"""The graph decides and computes as PyTorch does, and leaves out what is closed."""
import copy
import json
from pathlib import Path

import pytest
import torch
from mmdyn.backbones import AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNetCIFAR, DGResNet
from mmdyn.cost import CostAccount
from mmdyn.engine import InputError
from torch import nn

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdyn.deployment import graph_check, metadata  # noqa: E402
from mmdyn.deployment.exportable_model import ExportableModel  # noqa: E402
from mmdyn.deployment.onnx_comparison import compare  # noqa: E402
from mmdyn.deployment.onnx_export import export  # noqa: E402
from mmdyn.deployment.onnx_session import OnnxSession  # noqa: E402

from small_models import HEADS, RESNET, build, images, one_stage, two_stage, with_backbone  # noqa: E402

SIZE = (64, 96)
GATED_NODES = dict(node_gates=True, threshold=0.0, init='complete', column_bound=1.5)
DEEPER = dict(RESNET, depth=34)
REGNET = dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0)


def exported(module, folder, dynamic=False):
    """The ONNX model, and a session that runs it."""
    proto = export(module, torch.randn(1, 3, *SIZE), dynamic=dynamic)
    metadata.write(proto, dict(mmdyn_version='0', stride=module.stride, blocks=module.run.block_names()))
    return proto, OnnxSession(folder / 'model.onnx', proto.SerializeToString())


def assert_same(model, module, session, inputs):
    """Same outputs and decisions, and no decision the same for all images; returns the (N, blocks) decisions."""
    number, largest = compare(model, module, session, inputs)
    assert number == len(inputs) and largest < 1e-4
    blocks = torch.cat([torch.from_numpy(session.run(image.numpy())['blocks']) for image in inputs])
    assert ((0 < blocks.mean(dim=0)) & (blocks.mean(dim=0) < 1)).all()
    return blocks


def convolutions_run(proto, image, folder):
    """How many convolutions onnxruntime's profiler has seen run for an image."""
    session = OnnxSession(folder / 'model.onnx', proto.SerializeToString(), profile=str(folder / 'profile'))
    session.run(image.numpy())
    events = json.loads(Path(session.session.end_profiling()).read_text())
    return sum(event.get('args', {}).get('op_name') in ('Conv', 'FusedConv') for event in events
               if event['name'].endswith('_kernel_time'))


@pytest.mark.parametrize('backbone, blocks', [
    (lambda: AIGResNet(**RESNET), 4),
    pytest.param(lambda: AIGMobileNetV2(widen_factor=0.1, out_indices=(2, 7)), 11, marks=pytest.mark.slow),
    pytest.param(lambda: AIGRegNet(arch=REGNET, out_indices=(3, )), 8, marks=pytest.mark.slow),
    (lambda: DGResNet(threshold=0.8, **RESNET), 2),
    pytest.param(lambda: DGResNet(node='block', threshold=0.8, **DEEPER), 5, marks=pytest.mark.slow),
    (lambda: AIGResNet(gate_groups=[['layer2.1', 'layer2.2', 'layer2.3']], **DEEPER), 7),
    pytest.param(lambda: DGResNet(node_gates=True, threshold=0.0, **RESNET), 2, marks=pytest.mark.slow),
    pytest.param(lambda: DGResNet(node='block', **GATED_NODES, **RESNET), 2, marks=pytest.mark.slow),
], ids=['aig', 'aig-mobilenet', 'aig-regnet', 'branches', 'blocks', 'group', 'gated-branches', 'gated-blocks'])
def test_each_block_is_a_branch(backbone, blocks, tmp_path):
    model = with_backbone(backbone())
    module = ExportableModel(model, size=SIZE)
    proto, session = exported(module, tmp_path)
    inputs = images(20)
    decided = assert_same(model, module, session, inputs)
    branches = graph_check.block_branches(proto.graph)
    assert len(branches) == len(module.run.conditional_blocks()) == blocks

    # Of the image that closes most and of the one that closes least, the profiler sees what the decisions say.
    always = len(list(graph_check.operators(proto.graph, 'Conv'))) - sum(
        sum(graph_check.convolutions_inside(branch)) for branch in branches)
    for n in (decided.sum(dim=1).argmin(), decided.sum(dim=1).argmax()):
        expected = always + sum(graph_check.convolutions_inside(branch)[0 if ran else 1]
                                for branch, ran in zip(branches, decided[n]))
        assert convolutions_run(proto, inputs[n], tmp_path) == expected


def test_masked(tmp_path):
    model = with_backbone(AIGResNet(**RESNET))
    module = ExportableModel(model, execution='mask', size=SIZE)
    proto, session = exported(module, tmp_path)
    assert_same(model, module, session, images(20))
    assert not list(graph_check.operators(proto.graph, 'If'))


def confident() -> nn.Module:
    """Two gates that are copies of one classifier, as in training, and open at a doubt that lies between theirs."""
    backbone = AIGResNetCIFAR(20, base_channels=4, gate=dict(num_classes=5), target_rates=[1] * 7 + [None] * 2)
    model = with_backbone(backbone)
    first, second = backbone.deciders()
    second.load_state_dict(first.state_dict())
    doubts = []
    for image in images(20):
        backbone(image)
        doubts += backbone.decisions.gate_logits.values()
    backbone.open_probability = torch.cat(doubts).sigmoid().median().item()
    return model


def test_gates_that_are_copies_of_each_other_keep_branches_of_their_own(tmp_path):
    model = confident()
    module = ExportableModel(model, size=SIZE)
    proto, session = exported(module, tmp_path)
    blocks = assert_same(model, module, session, images(20))
    assert (blocks.diff() == -1).any() and (blocks.diff() <= 0).all()  # an image that is sure once stays so
    assert len(list(graph_check.operators(proto.graph, 'If'))) == 2


def test_branches_that_have_gone_are_noticed():
    """What exporters have done: drop the branch that the example did not take, leave parts outside, merge decisions."""
    module = ExportableModel(with_backbone(AIGResNet(**RESNET)), size=SIZE)
    graph = export(module, torch.randn(1, 3, *SIZE)).graph
    graph_check.check_branches(graph, module.run)
    first, second, *_ = (node for node in graph.node if node.op_type == 'If')

    merged = copy.deepcopy(graph)
    next(node for node in merged.node if node.name == second.name).input[0] = first.input[0]
    with pytest.raises(RuntimeError, match='expected 4 decisions behind the If nodes, got 3: some have been merged'):
        graph_check.check_branches(merged, module.run)

    moved = copy.deepcopy(graph)
    branch = next(node for node in moved.node if node.name == first.name)
    body = next(attribute.g for attribute in branch.attribute if attribute.name == 'then_branch')
    body.node.remove(next(node for node in body.node if node.op_type == 'Conv'))
    with pytest.raises(RuntimeError, match='expected 2 convolutions of layer1.0 in its branch, got 1'):
        graph_check.check_branches(moved, module.run)

    graph.node.remove(first)
    with pytest.raises(RuntimeError, match='expected 4 If nodes in the graph, one for each block .* got 3'):
        graph_check.check_branches(graph, module.run)


def test_what_is_not_the_same_is_noticed(tmp_path):
    model = with_backbone(AIGResNet(**RESNET))
    module = ExportableModel(model, execution='mask', size=SIZE)
    _, session = exported(module, tmp_path)
    model.backbone.layer1[0].gate.fc2.bias.data += torch.tensor([99.0, -99.0])
    with pytest.raises(RuntimeError, match='the decisions of the graph differ from those of PyTorch'):
        compare(model, module, session, images(20))
    model.backbone.layer1[0].gate.fc2.bias.data -= torch.tensor([99.0, -99.0])
    model.backbone.layer2[1].bn1.bias.data += 1
    with pytest.raises(RuntimeError, match='expected outputs within 0.0001 of PyTorch'):
        compare(model, module, session, images(20))


@pytest.mark.parametrize('head', [
    name if name == 'FCOS' else pytest.param(name, marks=pytest.mark.slow) for name in HEADS])
def test_one_stage(head, tmp_path):
    model = build(one_stage(head, dict(type='mmdyn.AIGResNet', **RESNET)))
    module = ExportableModel(model, size=SIZE)
    proto, session = exported(module, tmp_path)
    assert session.names == ['boxes', 'scores', 'labels', 'blocks', 'macs']
    assert_same(model, module, session, images(20))
    suppression, = graph_check.operators(proto.graph, 'NonMaxSuppression')
    assert {node.domain for node in graph_check.operators(proto.graph)} == {''}  # ordinary operators
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [('', 18)]


def test_two_stage(tmp_path):
    model = build(two_stage(dict(type='mmdyn.DGResNet', threshold=1.0, **RESNET)))
    module = ExportableModel(model, size=SIZE)
    proto, session = exported(module, tmp_path)
    assert session.names == ['boxes', 'scores', 'labels', 'blocks', 'adjacency_layer1', 'adjacency_layer2', 'macs']
    assert_same(model, module, session, images(20))
    assert len(list(graph_check.operators(proto.graph, 'RoiAlign'))) == 2


def test_an_operator_that_onnx_lacks():
    backbone = AIGResNet(dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=(False, True), **dict(RESNET, depth=50))
    module = ExportableModel(with_backbone(backbone), size=SIZE)
    with pytest.raises(InputError, match=r'(?s)a part of the model \(AIGResNet\) has no form in ONNX.* --raw or --backbone'):
        export(module, torch.randn(1, 3, *SIZE))


@pytest.mark.slow
@pytest.mark.parametrize('config', [
    one_stage('RetinaNet', dict(type='mmdyn.AIGResNet', **RESNET)),
    two_stage(dict(type='mmdyn.DGResNet', threshold=1.0, **RESNET))], ids=['RetinaNet', 'Faster R-CNN'])
def test_images_of_any_size(config, tmp_path):
    model = build(config)
    module = ExportableModel(model, size=None)
    _, session = exported(module, tmp_path, dynamic=True)
    for size in ((64, 96), (128, 40), (256, 256)):
        inputs = images(4, size)
        compare(model, module, session, inputs)
        ran, dense = session.run(inputs[0].numpy())['macs']
        assert dense == CostAccount(model.backbone).dense_macs(size) >= ran
    with pytest.raises(InputError, match='takes images of 1x3xa multiple of 8xa multiple of 8, got 1x3x60x64'):
        session.run(torch.zeros(1, 3, 60, 64).numpy())
