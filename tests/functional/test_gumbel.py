"""Straight-through Gumbel sampling: finite, exact, with the right rates and gradients."""
import pytest
import torch

from mmdyn.functional.gumbel import gumbel_gate, logistic_noise, open_logit, straight_through


def test_straight_through_is_exact_and_passes_the_gradient():
    surrogate = torch.rand(1000, requires_grad=True)
    value = (surrogate > 0.5).float()
    out = straight_through(value, surrogate)
    assert torch.equal(out, value)
    out.sum().backward()
    assert torch.equal(surrogate.grad, torch.ones(1000))


def test_noise_is_finite_at_both_ends_of_the_uniform_distribution(monkeypatch):
    ends = torch.tensor([0.0, 2.0**-25, 2.0**-24, 0.5, 1 - 2.0**-24])
    monkeypatch.setattr(torch, 'rand_like', lambda like: ends.clone())
    noise = logistic_noise(ends)
    assert noise.isfinite().all()
    assert noise[0] == noise[2] and noise[3] == 0
    assert noise[0] == pytest.approx(-noise[4].item())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_extreme_logits_stay_finite(dtype):
    big, tiny = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    values = torch.tensor([0, tiny, -tiny, 1, -1, big, -big, float('inf'), -float('inf')],
                          dtype=dtype)
    logits = torch.cartesian_prod(values, values).requires_grad_()
    logit = open_logit(logits)
    gates = gumbel_gate(logit)
    assert logit.dtype == torch.promote_types(dtype, torch.float32)
    assert logit.isfinite().all()
    assert ((gates == 0) | (gates == 1)).all()
    gates.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_sampled_rates_match_the_sigmoid_of_the_logit(temperature):
    samples = 200_000
    for logit in (-4.0, -1.0, 0.0, 1.9, 5.0):
        rate = gumbel_gate(torch.full((samples, ), logit), temperature).mean().item()
        wanted = torch.sigmoid(torch.tensor(logit)).item()
        five_sigma = 5 * (wanted * (1 - wanted) / samples)**0.5
        assert abs(rate - wanted) < five_sigma


def test_without_noise_the_sign_decides():
    logit = torch.linspace(-3, 3, 101)
    assert torch.equal(gumbel_gate(logit, noise=0.0), (logit > 0).float())


def test_gradient_is_that_of_the_relaxed_sample():
    logit = torch.tensor([0.3, -2.0], requires_grad=True)
    gumbel_gate(logit, temperature=2.0, noise=0.0).sum().backward()
    soft = torch.sigmoid(logit.detach() / 2)
    torch.testing.assert_close(logit.grad, soft * (1 - soft) / 2)


def test_reinmax_has_the_mean_of_the_derivatives_at_both_ends():
    """The expected gradient of a quadratic loss, where the trapezoid's rule is exact, equals the true one."""
    torch.manual_seed(0)
    for value, noise in ((-1.0, 1.0), (0.5, 1.0), (1.9, 2.0)):
        logit = torch.full((400_000, ), value, dtype=torch.float64, requires_grad=True)
        decision = gumbel_gate(logit, noise=noise, reinmax=True)
        loss = (3 * decision - 2 * decision.square()) + 0.4 * decision  # L(1) - L(0) = 1.4
        loss.sum().backward()
        p = torch.sigmoid(torch.tensor(value / noise, dtype=torch.float64))
        wanted = p * (1 - p) / noise * 1.4
        error = logit.grad.std() / len(logit)**0.5
        assert abs(logit.grad.mean() - wanted) < 4 * error
