"""A training forward on a GPU that is only pretended: nothing is read on the host, and nothing copied from it.

Tensors under FakeTensorMode have a device and no contents: what asks for a value raises, as do mixed devices.
"""
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

fake = pytest.importorskip('torch._subclasses.fake_tensor', reason='needs FakeTensorMode')

from mmdyn.backbones import (AIGMobileNetV2, AIGRegNet, AIGResNet, AIGResNeXt, DGMobileNetV2, DGRegNet,  # noqa: E402
                             DGResNet, DGResNeXt)
from mmdyn.layers.global_mean import global_mean  # noqa: E402
from mmdyn.losses import TargetRateLoss  # noqa: E402


def can_pretend() -> bool:
    try:
        with fake.FakeTensorMode():
            torch.ones(1, device='cuda') + 1
        return True
    except (RuntimeError, AssertionError):
        return False


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


class Copies(TorchDispatchMode):
    """Notes every copy between the host and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            if out.device != args[0].device:
                self.found.append(f'{func}: {args[0].device} -> {out.device}')
        return out


def pretend(module: nn.Module) -> None:
    """Puts parameters and buffers without contents on the GPU in the place of the module's own."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=value.dtype, device='cuda')
                part._parameters[name] = nn.Parameter(empty, value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device='cuda')


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('family', BACKBONES)
def test_a_training_iteration_reads_and_copies_nothing(family, autocast):
    backbone, loss = BACKBONES[family](), TargetRateLoss()
    backbone.losses_attached = True
    with fake.FakeTensorMode():
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
    with fake.FakeTensorMode(), pytest.raises(Exception, match='DataDependent|data-dependent|_local_scalar_dense'):
        torch.ones(2, device='cuda').sum().item()


def test_what_is_copied_is_noticed():
    with fake.FakeTensorMode(), Copies() as copies:
        torch.ones(2).to('cuda') + torch.ones(2, device='cuda')
    assert len(copies.found) == 1 and 'cpu -> cuda' in copies.found[0]
