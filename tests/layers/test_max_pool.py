"""The stem's pooling is the parent's to the last bit, forward and backward, and keeps less."""
import pytest
import torch
from torch import nn

from mmdyn.layers.max_pool import max_pool

POOLS = [
    nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 2, ceil_mode=True), nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
    nn.MaxPool2d(3, 2, 1, dilation=2), nn.AvgPool2d(2)
]


def layouts(features):
    return features, features.contiguous(memory_format=torch.channels_last), features[:, :, 1:]


@pytest.mark.parametrize('pool', POOLS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_equals_the_module_at_evaluation(pool, dtype):
    for maps in layouts(torch.randn(2, 5, 33, 17).to(dtype)):
        wanted = pool(maps)
        with torch.no_grad():
            pooled = max_pool(pool, maps)
        assert torch.equal(pooled, wanted) and pooled.stride() == wanted.stride()


@pytest.mark.parametrize('pool', POOLS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_equals_the_module_in_training(pool, dtype):
    for maps in layouts(torch.randn(2, 5, 33, 17).to(dtype).relu()):  # zeros tie
        results = []
        for function in (pool, lambda x: max_pool(pool, x)):
            x = maps.clone(memory_format=torch.preserve_format).requires_grad_()
            y = function(x)
            y.backward(torch.ones_like(y).cumsum(-1))
            results.append((y.detach(), x.grad))
        for ours, theirs in zip(*results):
            assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()


def test_a_map_too_wide_for_two_bytes_is_left_to_the_module():
    pool, x = nn.MaxPool2d(3, 2, 1), torch.randn(1, 1, 4, 40_000, requires_grad=True)
    max_pool(pool, x).sum().backward()
    ours, x.grad = x.grad, None
    pool(x).sum().backward()
    assert torch.equal(ours, x.grad)


def test_positions_are_kept_in_two_bytes():
    kept = []
    x = torch.randn(1, 2, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):
        max_pool(nn.MaxPool2d(3, 2, 1), x)
    assert kept == [torch.float32, torch.int16]


def test_hooks_see_an_ordinary_tensor():
    pool, seen = nn.MaxPool2d(3, 2, 1), []
    pool.register_forward_hook(lambda module, args, out: seen.append(args[0].is_mkldnn))
    with torch.no_grad():
        max_pool(pool, torch.randn(1, 2, 8, 8))
    assert seen == [False]
