"""Routers: exact at their start, finite for any input, float32 under autocast."""
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmdyn.layers.router import BiasRouter, Router, build_router


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


OPTIONS = [dict(norm='LN'), dict(norm='BN'), dict(dynamic=0.5), dict(norm='LN', dynamic=0.5), dict(norm='BN', dynamic=0.5)]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('images', [1, 4])
def test_what_reads_otherwise_starts_as_the_plain_router_and_has_its_keys(options, images):
    plain, other = Router(8, [1.0, 0.19], scale=2.0), build_router(options, 8, [1.0, 0.19], scale=2.0)
    assert torch.equal(other(torch.randn(images, 8) * 100), plain(torch.zeros(images, 8)))
    assert dict(other.named_parameters()).keys() == dict(plain.named_parameters()).keys()


@pytest.mark.parametrize('options', OPTIONS[2:], ids=str)
def test_an_image_changes_a_logit_within_the_bound(options):
    router = build_router(options, 8, [1.0, 0.19], scale=2.0)
    nn.init.normal_(router.weight, std=100.0)
    moved = router.logits(torch.randn(50, 8) * 100) - router.bias
    assert 0.49 < moved.abs().max() <= 0.5 and moved.min() < -0.4
    # Where it is small, it is as without a bound.
    nn.init.normal_(router.weight, std=1e-4)
    pooled = torch.randn(50, 8)
    bounded, router.dynamic = router.logits(pooled), None
    torch.testing.assert_close(bounded, router.logits(pooled), rtol=0, atol=1e-9)


@pytest.mark.parametrize('norm', ['LN', 'BN'])
@pytest.mark.parametrize('channels, size', [(8, 1.0), (512, 1.0), (64, 1000.0)])
def test_reading_learns_as_fast_as_the_constant_whatever_the_features(norm, channels, size):
    router = build_router(dict(norm=norm), channels, [1.0], scale=2.0)
    router.train()
    pooled = size * (torch.randn(256, channels) + torch.randn(channels))
    router.logits(pooled)[0].sum().backward()
    # How far one step on W, of length 1, moves the logit that it was made for; one on the bias moves it by 1.
    assert router.weight.grad.square().sum().item() == pytest.approx(1.0, rel=0.7 if channels == 8 else 0.2)
    assert router.bias.grad.item() == 1


def test_a_batch_norm_tells_how_an_image_differs_from_others():
    router = build_router(dict(norm='BN'), 8, [1.0], scale=2.0).train()
    nn.init.normal_(router.weight)
    pooled = torch.randn(16, 8) + 100
    logits = router.logits(pooled)
    assert logits.mean().abs() < 1e-5 and logits.std() > 0.1
    for _ in range(200):
        router.logits(pooled)
    alone = torch.cat([router.eval().logits(image[None]) for image in pooled])
    assert torch.equal(alone, torch.cat([router.train().logits(image[None]) for image in pooled]))
    torch.testing.assert_close(alone, logits, rtol=0.05, atol=0.05)


def test_a_constant_reads_no_image_and_multiplies_nothing():
    router = build_router('bias', 8, [1.0, 0.5], scale=2.0)
    assert type(router) is BiasRouter and list(router.state_dict()) == ['bias']
    with FlopCounterMode(display=False) as counter:
        weights = router(torch.full((3, 8), float('nan')))
    assert counter.get_total_flops() == 0 and not weights.isnan().any()
    assert torch.allclose(weights, torch.tensor([[1.0, 0.5]]).expand(3, 2))
    weights.sum().backward()
    assert router.bias.grad.all()
    router.bias.data.fill_(3.0)
    router.init_weights()
    assert torch.allclose(router(torch.zeros(1, 8)), torch.tensor([[1.0, 0.5]]))


@pytest.mark.parametrize('options, error, message', [
    ('cubic', ValueError, "router must be 'linear', 'bias' or a dict of options, got 'cubic'"),
    (dict(width=3), ValueError, r"router takes the options 'norm' and 'dynamic', got \['width'\]"),
    (dict(norm='GN'), ValueError, "router norm must be one of .* got 'GN'"),
    (dict(dynamic=0), ValueError, "router dynamic must be above 0, got 0; without a dynamic part it is router='bias'"),
    (dict(dynamic='much'), TypeError, "router dynamic must be a number .* got 'much'"),
])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        build_router(options, 8, [1.0], scale=2.0)
