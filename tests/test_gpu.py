"""What only a GPU can show."""
import copy

import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

import mmdyn
from mmdyn.backbones import AIGResNet, DGResNet

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs an NVIDIA GPU')]
BACKBONES = {
    'AIG': lambda **options: AIGResNet(18, target_rates=0.5, **options),
    'DG': lambda **options: DGResNet(depth=18, **options),
    'DG-blocks': lambda **options: DGResNet(depth=18, node='block', **options),
}


class Model(nn.Module):
    """A backbone with a loss."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=sum(out.float().square().mean() for out in self.backbone(inputs)))


@pytest.fixture(params=BACKBONES)
def model(request) -> Model:
    model = Model(BACKBONES[request.param]()).cuda().train()
    mmdyn.attach(model, [dict(type='mmdyn.TargetRateLoss'), dict(type='mmdyn.ComputeBudgetLoss', target=0.9)])
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 128, 128, device='cuda')


def total(model: Model, images: torch.Tensor) -> torch.Tensor:
    return sum(value for name, value in model(images).items() if 'loss' in name)


def peak(backbone: nn.Module, images: torch.Tensor) -> int:
    """Bytes of a training step, less those of weights and their gradients."""
    model = Model(backbone.cuda().train())
    backbone.losses_attached = True
    for _ in range(2):  # the first one makes the gradients
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model(images)['loss'].backward()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('family', ['AIG', 'DG'])
def test_training_takes_the_memory_of_a_static_backbone(family, with_cp):
    images = torch.randn(4, 3, 256, 256, device='cuda')
    static = peak(ResNet(depth=18, with_cp=with_cp), images)
    assert peak(BACKBONES[family](with_cp=with_cp), images) < 1.15 * static


def test_a_training_step_never_waits(model, images):
    total(model, images).backward()  # libraries set themselves up
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        total(model, images).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_float16_keeps_the_scale_of_its_gradients(model, images):
    scaler = torch.cuda.amp.GradScaler(init_scale=2.0**12)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(5):
        with torch.autocast('cuda', torch.float16):
            loss = total(model, images)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**12


def test_channels_last_with_autocast_is_the_same_network(model, images):
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    outs = []
    for each, batch in ((model, images), (other, images.contiguous(memory_format=torch.channels_last))):
        torch.manual_seed(0)
        with torch.autocast('cuda', torch.bfloat16):
            outs.append(each.backbone(batch)[-1].float())
    assert outs[1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*outs, rtol=0.1, atol=0.05 * outs[0].abs().max().item())


def test_masked_evaluation_is_captured_as_a_cuda_graph(model, images):
    backbone = model.backbone.eval()
    backbone.execution = 'mask'
    static_input = torch.zeros_like(images)
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                backbone(static_input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outs = backbone(static_input)
        static_input.copy_(images)
        graph.replay()
        for ours, wanted in zip(outs, backbone(images)):
            torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


def test_skipped_evaluation_is_masked_evaluation(model, images):
    backbone, outs = model.backbone.eval(), []
    for backbone.execution in ('skip', 'mask'):
        with torch.no_grad():
            outs.append(backbone(images))
    for ours, wanted in zip(*outs):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('mode', ['train', 'mask'])
def test_inductor_compiles_training_and_masked_evaluation(model, images, mode):
    torch.compiler.reset()
    backbone = model.backbone.train(mode == 'train')
    backbone.execution = 'mask' if mode == 'mask' else 'skip'
    compiled = torch.compile(backbone, fullgraph=True)
    with torch.set_grad_enabled(mode == 'train'):
        outs = compiled(images)
    if mode == 'train':
        sum(out.square().mean() for out in outs).backward()
        assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
    else:
        with torch.no_grad():
            for ours, wanted in zip(outs, backbone(images)):
                torch.testing.assert_close(ours, wanted, rtol=1e-2, atol=1e-3 * wanted.abs().max().item())
