"""A GPU that is only pretended: what the host waits for, and what is copied to the device and from it."""
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from mmengine.structures import BaseDataElement

pytest.importorskip('torch._subclasses.fake_tensor', reason='needs FakeTensorMode')

from gpu_calls import Copies, FakeTensorMode, Reads, autocast, can_pretend, pretend  # noqa: E402

import mmdyn  # noqa: E402
from mmdyn.backbones import (AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNeXt, DGMobileNetV2, DGRegNet,  # noqa: E402
                             DGResNet, DGResNeXt)
from mmdyn.hooks import DynamicModelHook, PairedRoutesHook  # noqa: E402
from mmdyn.metrics import ComputeMetric  # noqa: E402

pytestmark = pytest.mark.skipif(not can_pretend(), reason='this PyTorch asks for a driver to pretend a GPU')
ARCH = dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0)
RATES = dict(target_rates=0.5, norm_eval=False)
GROUPS = [['layer2.1', 'layer2.2', 'layer2.3'], ['layer3.2', 'layer3.4']]
BACKBONES = {
    'aig-resnet': lambda: AIGResNet(18, base_channels=8, **RATES),
    'aig-resnet-calibrated': lambda: AIGResNet(18, base_channels=8, open_probability='calibrated', target_rates=0.5),
    'aig-resnet-groups': lambda: AIGResNet(50, base_channels=8, gate_groups=GROUPS, with_cp=True, **RATES),
    'aig-resnext': lambda: AIGResNeXt(depth=50, base_channels=8, groups=2, **RATES),
    'aig-regnet': lambda: AIGRegNet(arch=ARCH, **RATES),
    'aig-mobilenet': lambda: AIGMobileNetV2(widen_factor=0.25, **RATES),
    'dg-resnet': lambda: DGResNet(depth=18, base_channels=8, norm_eval=False),
    'dg-resnet-blocks': lambda: DGResNet(depth=18, base_channels=8, node='block', threshold='learnable'),
    'dg-resnext': lambda: DGResNeXt(depth=50, base_channels=8, groups=2, norm_eval=False),
    'dg-regnet': lambda: DGRegNet(arch=ARCH, node='block'),
    'dg-mobilenet': lambda: DGMobileNetV2(widen_factor=0.25, norm_eval=False),
    'dg-mobilenet-gates': lambda: DGMobileNetV2(widen_factor=0.25, node_gates=True, router='bias', **RATES),
    'dg-resnet-block-gates': lambda: DGResNet(depth=18, base_channels=8, node='block', node_gates=True, column_bound=1.0,
                                              router=dict(norm='BN', dynamic=1.0), **RATES),
}


class ToGPU(torch.nn.Module):
    """From the size of a batch to one that is on the GPU."""

    def forward(self, size):
        return torch.randn(size, device='cuda')


class Model(torch.nn.Module):
    """A detector whose heads do nothing worth mentioning."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.data_preprocessor = ToGPU()
        self.steps = 0

    def forward(self, inputs, data_samples=None, mode='loss'):
        outs = self.backbone(inputs)
        return dict(loss=sum(out.float().mean() for out in outs)) if mode == 'loss' else data_samples

    def train_step(self, size, optim_wrapper):
        self.steps += 1
        return self(self.data_preprocessor(size), mode='loss')


def wait_for(backbone) -> int:
    """How often the host has to wait in a forward at evaluation: once a gate, or once a vertex of a wired stage."""
    if hasattr(backbone, 'stages'):
        return sum(len(stage) for _, stage in backbone.stages())  # the nodes after the first, and the output
    return len(backbone.gates())


@pytest.mark.parametrize('precision', [nullcontext, partial(autocast, torch.float16)], ids=['float32', 'autocast'])
@pytest.mark.parametrize('family', BACKBONES)
def test_a_training_iteration_reads_and_copies_nothing(family, precision):
    """Forward pass, losses, calibration, and what the hook keeps to log it later."""
    model, hook = Model(BACKBONES[family]()).train(), DynamicModelHook(interval=50)
    hook.attachment = mmdyn.attach(model, [dict(type=f'mmdyn.{name}', **options) for name, options in (
        ('TargetRateLoss', {}), ('ComputeBudgetLoss', dict(target=0.9)))])
    runner = SimpleNamespace(iter=0, max_iters=100, hooks=[], work_dir='')
    with FakeTensorMode():
        pretend(model)
        images = torch.randn(2, 3, 64, 64, device='cuda')
        with Copies() as copies, precision():
            losses = model(images)
            hook.after_train_iter(runner, 0, outputs=losses)
        assert not copies.found and {value.device.type for value in losses.values()} == {'cuda'}


def test_a_report_waits_once_for_losses_once_for_rates_and_once_for_spreads():
    model, hook = Model(BACKBONES['aig-resnet']()).train(), DynamicModelHook(interval=50)
    hook.attachment = mmdyn.attach(model, [dict(type='mmdyn.TargetRateLoss')])
    runner = MagicMock(iter=49, max_iters=100, hooks=[], work_dir='')
    with FakeTensorMode():
        pretend(model)
        losses = model(torch.randn(2, 3, 64, 64, device='cuda'))
        with Reads() as reads:
            hook.after_train_iter(runner, 0, outputs=losses)
    assert len(reads.found) == 3 and runner.logger.info.call_count == 1


@pytest.mark.parametrize('updates', [1, 2])
def test_paired_routes_and_taught_gates_read_and_copy_nothing(updates):
    """Nor does the host wait between the two steps of an iteration."""
    model = Model(AIGResNet(18, base_channels=8, gate=dict(estimator='taught'), open_probability='calibrated', **RATES))
    mmdyn.attach(model.train(), [dict(type='mmdyn.TaughtGateLoss')])
    hook = PairedRoutesHook(updates=updates)
    optim_wrapper = SimpleNamespace(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    runner = SimpleNamespace(model=model, iter=0, max_iters=100, optim_wrapper=optim_wrapper, hooks=[hook])
    with FakeTensorMode(), Copies() as copies, Reads() as reads:
        pretend(model)
        hook.before_train(runner)
        hook.before_train_iter(runner, 0, (2, 3, 64, 64))
        losses = model.train_step((2, 3, 64, 64), runner.optim_wrapper)
        assert not copies.found and not reads.found
        assert model.steps == updates and {'loss_taught_gates', 'loss_route_distance'} < set(losses)


def test_training_that_skips_reads_once_a_gate():
    backbone = AIGResNet(50, base_channels=8, target_rates=0.5, gate_groups=GROUPS, train_execution='skip').train()
    backbone.losses_attached = True
    with FakeTensorMode(), Copies() as copies, Reads() as reads:
        pretend(backbone)
        backbone(torch.randn(4, 3, 64, 64, device='cuda'))
    assert len(reads.found) == 16 and not copies.found  # what runs is drawn anew for each block of a group


@pytest.mark.parametrize('node', ['branch', 'block'])
def test_training_that_skips_nodes_reads_once_a_gate(node):
    backbone = DGResNet(50, base_channels=8, node=node, node_gates=True, train_execution='skip').train()
    backbone.losses_attached = True
    with FakeTensorMode(), Copies() as copies, Reads() as reads:
        pretend(backbone)
        backbone(torch.randn(4, 3, 64, 64, device='cuda'))
    assert len(reads.found) == len(backbone.gates()) == 12 and not copies.found


def test_what_reads_a_value_is_noticed():
    with FakeTensorMode(), pytest.raises(Exception, match='DataDependent|data-dependent|_local_scalar_dense'):
        torch.ones(2, device='cuda').sum().item()


def test_what_is_copied_is_noticed():
    with FakeTensorMode(), Copies() as copies:
        torch.ones(2, device='cpu').to('cuda') + torch.ones(2, device='cuda')
    assert len(copies.found) == 1 and 'cpu -> cuda' in copies.found[0]


R50 = {
    'aig': lambda: AIGResNet(50, base_channels=8, target_rates=0.5),
    'dg': lambda: DGResNet(depth=50, base_channels=8),
    'dg-blocks': lambda: DGResNet(depth=50, base_channels=8, node='block'),
}


@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize('family', R50)
def test_an_inference_forward_reads_once_a_gate_or_vertex(family, batch):
    backbone = R50[family]().eval()
    with FakeTensorMode(), torch.no_grad(), Copies() as copies, Reads() as reads:
        pretend(backbone)
        images = torch.randn(batch, 3, 64, 64, device='cuda')
        outs = backbone(images)
    # Sixteen gates; or the nodes after the first of each stage, and its output.
    assert len(reads.found) == wait_for(backbone) == 16 and not copies.found
    assert [tuple(out.shape) for out in outs] == [(batch, 32 << i, 16 >> i, 16 >> i) for i in range(4)]


@pytest.mark.parametrize('precision', [nullcontext, partial(autocast, torch.float16)], ids=['float32', 'autocast'])
@pytest.mark.parametrize('family', BACKBONES)
def test_an_inference_forward_of_each_family_reads_once_a_gate_or_vertex(family, precision):
    backbone = BACKBONES[family]().eval()
    with FakeTensorMode(), torch.no_grad(), Copies() as copies, Reads() as reads:
        pretend(backbone)
        with precision():
            backbone(torch.randn(4, 3, 64, 64, device='cuda'))
    assert len(reads.found) == wait_for(backbone) and not copies.found


@pytest.mark.parametrize('family', BACKBONES)
def test_masked_evaluation_reads_nothing(family):
    backbone = BACKBONES[family]().eval()
    backbone.execution = 'mask'
    with FakeTensorMode(), torch.no_grad(), Copies() as copies:
        pretend(backbone)
        backbone(torch.randn(4, 3, 64, 64, device='cuda'))
    assert not copies.found


@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize('family', R50)
def test_the_results_of_a_batch_are_read_at_once(family, batch):
    model = Model(R50[family]()).eval()
    attachment = mmdyn.attach(model)
    attachment.accounts['backbone'].parts((64, 64))  # counted once a size, without a device
    with FakeTensorMode(), torch.no_grad(), Copies() as copies, Reads() as reads:
        pretend(model)
        samples = model(torch.randn(batch, 3, 64, 64, device='cuda'), [BaseDataElement() for _ in range(batch)], 'predict')
        assert len(reads.found) == 17 and len(copies.found) == 1
        metric = ComputeMetric()
        metric.process(None, [sample.to_dict() for sample in samples])
    assert len(reads.found) == 17 and len(metric.results) == batch
