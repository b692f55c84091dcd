"""tools/deployment/export_onnx.py: the graph decides and computes as PyTorch does, and skips what is closed."""
import mmcv
import numpy as np
import pytest
import torch
from mmdyn.backbones import AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNetCIFAR, DGMobileNetV2, DGResNet
from torch import nn

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdyn.deployment import onnx_comparison, onnx_export  # noqa: E402
from mmdyn.deployment.exportable import ExportableAIG, ExportableDG, WithHead  # noqa: E402
from mmdyn.engine import InputError  # noqa: E402

# Two stages: an export takes seconds.
SMALL = dict(depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))


class Detector(nn.Module):

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def with_decisions_that_differ(backbone: nn.Module) -> Detector:
    for decider in backbone.deciders():
        for parameter in decider.parameters():
            parameter.data += torch.randn_like(parameter)
    return Detector(backbone.eval())


def padded_noise(number: int) -> list[torch.Tensor]:
    images = [torch.randn(1, 3, 64, 64) for _ in range(number)]
    images[-1][..., 40:] = 0
    return images


@pytest.mark.slow
@pytest.mark.parametrize('backbone', [
    lambda: AIGMobileNetV2(widen_factor=0.1, out_indices=(2, 7)),
    lambda: AIGRegNet(arch=dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0), out_indices=(3, )),
], ids=['mobilenet', 'regnet'])
def test_each_gate_of_the_other_families_is_a_branch(backbone, tmp_path):
    model = with_decisions_that_differ(backbone())
    module, path, images = onnx_export.exportable(model, 'skip'), tmp_path / 'aig.onnx', padded_noise(5)
    onnx_export.export(module, torch.randn(1, 3, 64, 64), path)
    number, largest = onnx_comparison.compare(model, module, path, images)
    assert number == 5 and largest < 1e-4
    branches = list(onnx_export.operators(onnx.load(str(path)).graph, 'If'))
    assert len(branches) == len(list(model.backbone.deciders())) > 7


@pytest.mark.parametrize('execution', ['skip', 'mask'])
def test_gates(execution, tmp_path):
    model = with_decisions_that_differ(AIGResNet(**SMALL))
    module, path, images = onnx_export.exportable(model, execution), tmp_path / 'aig.onnx', padded_noise(20)
    onnx_export.export(module, torch.randn(1, 3, 64, 64), path)
    number, largest = onnx_comparison.compare(model, module, path, images)
    assert number == 20 and largest < 1e-4
    decisions = torch.cat([onnx_comparison.expected_outputs(model, module, image)[1][0] for image in images])
    assert 0 < decisions.mean() < 1 and (decisions != decisions[0]).any()

    graph = onnx.load(str(path)).graph
    branches = list(onnx_export.operators(graph, 'If'))
    assert len(branches) == (4 if execution == 'skip' else 0)
    for branch in branches:
        bodies = {attribute.name: attribute.g for attribute in branch.attribute}
        convolutions = {name: len(list(onnx_export.operators(body, 'Conv'))) for name, body in bodies.items()}
        # A projection stays; the residual branch runs only where the gate is open.
        assert convolutions['then_branch'] == convolutions['else_branch'] + 2

    # What is not the same is noticed.
    model.backbone.layer1[0].gate.fc2.bias.data += torch.tensor([9., -9.])
    with pytest.raises(RuntimeError, match='the decisions of the graph differ from those of PyTorch'):
        onnx_comparison.compare(model, module, path, images)
    model.backbone.force_decisions('open')
    model.backbone.layer2[1].bn2.bias.data += 1
    with pytest.raises(RuntimeError, match='differ from those of PyTorch|expected outputs within 0.0001'):
        onnx_comparison.compare(model, module, path, images)


def test_gates_that_know_the_classes(tmp_path):
    torch.manual_seed(0)
    backbone = AIGResNetCIFAR(20, base_channels=4, gate=dict(num_classes=5), target_rates=[1] * 7 + [None] * 2)
    # As in training, the gates are copies of one classifier.
    first, second = with_decisions_that_differ(backbone).backbone.deciders()
    second.load_state_dict(first.state_dict())
    model, images = Detector(backbone), padded_noise(20)
    doubts = []
    for image in images:
        backbone(image)
        doubts += backbone.decisions.gate_logits.values()
    # Between the two gates' doubts: one opens where the other does not.
    backbone.open_probability = torch.cat(doubts).sigmoid().median().item()
    module, path = onnx_export.exportable(model, 'skip'), tmp_path / 'aig.onnx'
    onnx_export.export(module, torch.randn(1, 3, 64, 64), path)
    number, largest = onnx_comparison.compare(model, module, path, images)
    assert number == 20 and largest < 1e-4
    decisions = torch.cat([onnx_comparison.expected_outputs(model, module, image)[1][0] for image in images])
    assert (decisions.diff() == -1).any() and (decisions.diff() <= 0).all()  # an image that is sure once stays so


def test_wired_stages(tmp_path):
    model = with_decisions_that_differ(DGResNet(threshold=0.8, **SMALL))
    module, path, images = onnx_export.exportable(model, None), tmp_path / 'dg.onnx', padded_noise(20)
    onnx_export.export(module, torch.randn(1, 3, 64, 64), path)
    number, largest = onnx_comparison.compare(model, module, path, images)
    assert number == 20 and largest < 1e-4


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.{family}', depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
                  out_indices=(1, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=8))
data_preprocessor = dict(num_classes=3, mean=[100., 120., 140.], std=[50., 60., 70.], to_rgb=True)
"""


@pytest.mark.parametrize('family, decisions', [('AIGResNet', ['gates']),
                                               ('DGResNet', ['adjacency_layer1', 'adjacency_layer2'])])
def test_a_classifier_by_the_command(family, decisions, tmp_path, run_tool):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'config.py').write_text(CLASSIFIER.format(family=family))
    for label in ('cat', 'dog'):
        for number in range(3):
            mmcv.imwrite(np.random.randint(0, 256, (50, 70, 3), dtype=np.uint8), f'{tmp_path}/{label}/{number}.png')
    out = run_tool('deployment/export_onnx.py', f'{tmp_path}/config.py', '--out', f'{tmp_path}/model.onnx',
                   '--shape', 40, 48, '--images', tmp_path, '--num-images', 4)
    assert 'on 4 images the decisions are those of PyTorch' in out
    graph = onnx.load(f'{tmp_path}/model.onnx').graph
    assert [output.name for output in graph.output] == ['logits', *decisions]
    assert [size.dim_value for size in graph.output[0].type.tensor_type.shape.dim] == [1, 3]


def test_a_dropped_branch_is_noticed(tmp_path, monkeypatch):
    """What tracing does: the example's branch alone is in the graph."""
    model = with_decisions_that_differ(AIGResNet(**SMALL))
    monkeypatch.setattr(torch, 'cond', lambda condition, run, skip, operands: skip(*operands))
    with pytest.raises(RuntimeError, match='expected 4 If nodes in the graph, one a gate, got 0'):
        onnx_export.export(onnx_export.exportable(model, 'skip'), torch.randn(1, 3, 64, 64), tmp_path / 'x.onnx')


@pytest.mark.parametrize('backbone, execution, message', [
    (lambda: AIGResNet(policy='sample', **SMALL), None, "got policy='sample'"),
    (lambda: AIGResNet(policy='expected', **SMALL), 'skip', 'nothing can be skipped'),
    (lambda: AIGResNet(target_rates=1, **SMALL), None, 'it is static'),
    (lambda: DGResNet(**SMALL), 'skip', 'exported masked only'),
])
def test_bad_input(backbone, execution, message):
    with pytest.raises(InputError, match=message):
        onnx_export.exportable(Detector(backbone()), execution)


def test_the_eager_modules_are_the_backbones():
    """Without ONNX: the pure forwards compute what the backbones do."""
    images = torch.cat(padded_noise(4))
    for backbone, pure in ((AIGResNet(**SMALL), lambda b: ExportableAIG(b, skip=False)),
                           (DGResNet(threshold=0.8, **SMALL), ExportableDG),
                           (DGResNet(node='block', threshold=0.5, **SMALL), ExportableDG),
                           (DGMobileNetV2(widen_factor=0.1, threshold=0.8), ExportableDG)):
        model = with_decisions_that_differ(backbone)
        module = WithHead(pure(backbone))
        with torch.no_grad():
            outputs, decisions = onnx_comparison.expected_outputs(model, module, images)
            for ours, theirs in zip(module(images), outputs + decisions):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
