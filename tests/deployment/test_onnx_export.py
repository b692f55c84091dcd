"""The graph decides and computes as PyTorch does, and leaves out what is closed."""
import json
from pathlib import Path

import pytest
import torch
from mmdyn.backbones import AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNetCIFAR, DGMobileNetV2, DGResNet

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdyn.deployment import graph_check, metadata  # noqa: E402
from mmdyn.deployment.exportable_model import ExportableModel  # noqa: E402
from mmdyn.deployment.onnx_comparison import compare, reference  # noqa: E402
from mmdyn.deployment.onnx_export import export  # noqa: E402
from mmdyn.deployment.onnx_session import OnnxSession  # noqa: E402

from small_models import HEADS, RESNET, build, images, one_stage, two_stage, with_backbone  # noqa: E402

SIZE = (64, 96)


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
    pytest.param(lambda: AIGRegNet(arch=dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0), out_indices=(3, )), 8,
                 marks=pytest.mark.slow),
    (lambda: DGResNet(threshold=0.8, **RESNET), 2),
    pytest.param(lambda: DGResNet(node='block', threshold=0.8, **dict(RESNET, depth=34)), 5, marks=pytest.mark.slow),
    pytest.param(lambda: DGMobileNetV2(widen_factor=0.1, threshold=0.8, out_indices=(2, 5)), 8, marks=pytest.mark.slow),
], ids=['aig', 'aig-mobilenet', 'aig-regnet', 'branches', 'blocks', 'dg-mobilenet'])
def test_each_block_is_a_branch(backbone, blocks, tmp_path):
    model = with_backbone(backbone())
    module = ExportableModel(model, size=SIZE)
    proto, session = exported(module, tmp_path)
    inputs = images(20)
    decided = assert_same(model, module, session, inputs)
    branches = [node for node in proto.graph.node if node.op_type == 'If' and any(graph_check.convolutions_inside(node))]
    assert len(branches) == len(module.run.conditional_blocks()) == blocks

    # Of the image that closes most and of the one that closes least, the profiler sees what the decisions say.
    always = len(list(graph_check.operators(proto.graph, 'Conv'))) - sum(
        sum(graph_check.convolutions_inside(branch)) for branch in branches)
    for n in (decided.sum(dim=1).argmin(), decided.sum(dim=1).argmax()):
        expected = always + sum(graph_check.convolutions_inside(branch)[0 if ran else 1]
                                for branch, ran in zip(branches, decided[n]))
        assert convolutions_run(proto, inputs[n], tmp_path) == expected
