"""Routers: exact at their start, finite for any input, float32 under autocast."""
import pytest
import torch

from mmdyn.layers.router import Router


def test_starts_at_the_wanted_weights_for_every_input():
    router = Router(8, [1.0, 0.5, 0.19], scale=2.0)
    weights = router(torch.randn(5, 8) * 100)
    assert torch.equal(weights[:, 0], torch.ones(5))  # exactly 1: 2 * sigmoid(0)
    assert torch.allclose(weights, torch.tensor([1.0, 0.5, 0.19]).expand(5, 3))


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan'), 1e38])
def test_is_finite_for_any_input(value):
    router = Router(4, [1.0, 1.0], scale=2.0)
    pooled = torch.full((2, 4), value, requires_grad=True)
    assert torch.equal(router(pooled), torch.ones(2, 2))
    torch.nn.init.normal_(router.weight)
    weights = router(pooled)
    weights.sum().backward()
    assert torch.isfinite(weights).all() and torch.isfinite(router.weight.grad).all()


def test_is_float32_under_autocast():
    router = Router(4, [1.0], scale=2.0)
    torch.nn.init.normal_(router.weight)
    pooled = torch.randn(2, 4)
    with torch.autocast('cpu', torch.bfloat16):
        weights = router(pooled)
    assert weights.dtype == torch.float32 and torch.equal(weights, router(pooled))


def test_reset_restores_the_start():
    router = Router(4, [0.3], scale=1.0)
    torch.nn.init.normal_(router.weight)
    router.init_weights()
    assert torch.allclose(router(torch.randn(1, 4)), torch.tensor([[0.3]]))


@pytest.mark.parametrize('weight', [0.0, 2.0, -1.0])
def test_refuses_weights_that_it_cannot_give(weight):
    with pytest.raises(ValueError, match=r'weights in \(0, 2.0\), got'):
        Router(4, [weight], scale=2.0)
