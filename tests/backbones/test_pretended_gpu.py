"""A GPU that is only pretended: what the host waits for, and what is copied to the device and from it."""
import pytest
import torch
from mmengine.structures import BaseDataElement

pytest.importorskip('torch._subclasses.fake_tensor', reason='needs FakeTensorMode')

from gpu_calls import Copies, FakeTensorMode, Reads, can_pretend, pretend  # noqa: E402

import mmdyn  # noqa: E402
from mmdyn.backbones import (AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNeXt, DGMobileNetV2, DGRegNet,  # noqa: E402
                             DGResNet, DGResNeXt)
from mmdyn.layers.global_mean import global_mean  # noqa: E402
from mmdyn.losses import TargetRateLoss  # noqa: E402
from mmdyn.metrics import ComputeMetric  # noqa: E402

pytestmark = pytest.mark.skipif(not can_pretend(), reason='this PyTorch asks for a driver to pretend a GPU')
ARCH = dict(w0=8, wa=6.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0)
RATES = dict(target_rates=0.5, norm_eval=False)
BACKBONES = {
    'aig-resnet': lambda: AIGResNet(18, base_channels=8, **RATES),
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


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('family', BACKBONES)
def test_a_training_iteration_reads_and_copies_nothing(family, autocast):
    backbone, loss = BACKBONES[family](), TargetRateLoss()
    backbone.losses_attached = True
    with FakeTensorMode():
        pretend(backbone.train())
        images = torch.randn(2, 3, 64, 64, device='cuda')
        for _ in range(2):
            with Copies() as copies, torch.autocast('cuda', torch.float16, enabled=autocast):
                outs = backbone(images)
                found = [loss(backbone.decisions), *backbone.decisions.adjacency.values()]
                if backbone.decisions.gates:
                    found.append(global_mean(torch.stack(list(backbone.decisions.gates.values()))))
                backbone.calibrate()
        # In the first iteration, the target rates are copied to the device.
        assert not copies.found
        assert {tensor.device.type for tensor in (*outs, *found) if tensor is not None} == {'cuda'}


def test_what_reads_a_value_is_noticed():
    with FakeTensorMode(), pytest.raises(Exception, match='DataDependent|data-dependent|_local_scalar_dense'):
        torch.ones(2, device='cuda').sum().item()


def test_what_is_copied_is_noticed():
    with FakeTensorMode(), Copies() as copies:
        torch.ones(2).to('cuda') + torch.ones(2, device='cuda')
    assert len(copies.found) == 1 and 'cpu -> cuda' in copies.found[0]


class Predicts(torch.nn.Module):
    """A detector without heads."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples, mode):
        self.backbone(inputs)
        return data_samples


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
    assert len(reads.found) == 16 and not copies.found
    assert [tuple(out.shape) for out in outs] == [(batch, 32 << i, 16 >> i, 16 >> i) for i in range(4)]


@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize('family', R50)
def test_the_results_of_a_batch_are_read_at_once(family, batch):
    model = Predicts(R50[family]()).eval()
    attachment = mmdyn.attach(model)
    attachment.accounts['backbone'].parts((64, 64))  # counted once a size, without a device
    with FakeTensorMode(), torch.no_grad(), Copies() as copies, Reads() as reads:
        pretend(model)
        samples = model(torch.randn(batch, 3, 64, 64, device='cuda'), [BaseDataElement() for _ in range(batch)], 'predict')
        assert len(reads.found) == 17 and len(copies.found) == 1
        metric = ComputeMetric()
        metric.process(None, [sample.to_dict() for sample in samples])
    assert len(reads.found) == 17 and len(metric.results) == batch
