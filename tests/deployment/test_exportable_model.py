"""The pure forwards compute, decide and count what the backbones and their account do; nothing is exported here."""
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdyn.backbones import AIGMobileNetV2, AIGResNet, DGMobileNetV2, DGResNet
from mmdyn.cost import CostAccount
from mmdyn.deployment.backbone_cost import BackboneCost
from mmdyn.deployment.exportable_model import ExportableModel
from mmdyn.deployment.onnx_comparison import reference
from mmdyn.engine import InputError
from torch import nn

from small_models import RESNET, images, with_backbone

DEEPER = dict(RESNET, depth=34)


@pytest.mark.parametrize('backbone', [
    lambda: ResNet(**RESNET),
    lambda: AIGResNet(**RESNET),
    lambda: AIGResNet(policy='expected', **RESNET),
    lambda: AIGResNet(target_rates=1, **RESNET),
    lambda: AIGMobileNetV2(widen_factor=0.1, out_indices=(2, 7)),
    lambda: AIGResNet(gate_groups=[['layer1.0', 'layer1.1']], **RESNET),
    lambda: DGResNet(threshold=0.8, **RESNET),
    lambda: DGResNet(node='block', threshold=0.5, **RESNET),
    lambda: DGResNet(threshold='learnable', **RESNET),
    lambda: DGMobileNetV2(widen_factor=0.1, threshold=0.8),
    lambda: DGResNet(node_gates=True, threshold=0.8, **RESNET),
    lambda: DGResNet(node='block', node_gates=True, threshold=0.5, column_bound=1.5, **DEEPER),
    lambda: DGResNet(node='block', node_gates=True, policy='expected', **DEEPER),
    lambda: DGResNet(router='bias', **RESNET),
], ids=['static', 'aig', 'expected', 'all-run', 'aig-mobilenet', 'group', 'branches', 'blocks', 'learned',
        'dg-mobilenet', 'gated-branches', 'gated-blocks', 'gated-expected', 'bias'])
def test_outputs_and_decisions(backbone):
    model = with_backbone(backbone())
    module = ExportableModel(model, execution='mask', size=(64, 96))
    for image in images(4):
        outputs, decided = reference(model, module, image)
        with torch.no_grad():
            found = module(image)
        assert found.keys() == outputs.keys() | decided.keys() | {'macs'}
        for name, theirs in {**outputs, **decided}.items():
            torch.testing.assert_close(found[name], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('backbone', [
    lambda: AIGResNet(**RESNET),
    lambda: AIGResNet(gate_groups=[['layer1.0', 'layer1.1']], **RESNET),
    lambda: DGResNet(threshold=1.0, **RESNET),
    lambda: DGResNet(node_gates=True, **RESNET),
], ids=['aig', 'group', 'dg', 'gated-dg'])
@pytest.mark.parametrize('size', [(64, 96), None])
def test_macs_are_those_of_the_account(backbone, size):
    model = with_backbone(backbone())
    module = ExportableModel(model, size=size)
    account, costs = CostAccount(model.backbone), set()
    for image in images(6)[:-1]:
        _, decided = reference(model, module, image)
        expected, = account.images(model.backbone.decisions)
        ours = module.count(decided['blocks'], image)
        assert ours.tolist() == [expected.macs, expected.dense_macs]
        costs.add(expected.macs)
    assert len(costs) > 1


def test_masked_execution_runs_everything():
    model = with_backbone(AIGResNet(**RESNET))
    image, = images(1)
    with torch.no_grad():
        found = ExportableModel(model, execution='mask', size=(64, 96))(image)
    assert found['blocks'].min() == 0 and found['macs'][0] == found['macs'][1]


def test_cost_of_images_of_any_size():
    cost = BackboneCost(AIGResNet(**RESNET))
    assert cost.stride == 8
    for size in ((8, 8), (64, 24), (40, 72)):
        cells = size[0] * size[1] // 64
        assert {name: constant + rate * cells for name, (constant, rate) in cost.by_cells().items()} == cost.at(size)


class Quadratic(nn.Module):
    """Attention between all cells."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, stride=4)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        cells = self.conv(x).flatten(2)
        return [x[..., ::4, ::4] + (cells.transpose(1, 2) @ cells).mean()]


def test_a_cost_that_does_not_grow_with_the_area_is_refused():
    with pytest.raises(InputError, match='the multiply-adds of the backbone do not grow with the area.*--dynamic'):
        BackboneCost(Quadratic()).by_cells()


@pytest.mark.parametrize('backbone, execution, message', [
    (lambda: AIGResNet(policy='sample', **RESNET), None, "got policy='sample'"),
    (lambda: AIGResNet(policy='expected', **RESNET), 'skip', "policy='expected' runs every block, so nothing can"),
    (lambda: AIGResNet(target_rates=1, **RESNET), 'skip', 'has neither gates nor wired stages'),
    (lambda: ResNet(**RESNET), 'skip', 'ResNet is static, so nothing can be skipped'),
])
def test_bad_input(backbone, execution, message):
    with pytest.raises(InputError, match=message):
        ExportableModel(with_backbone(backbone()), execution=execution, size=(64, 96))
