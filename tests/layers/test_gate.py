"""The gate: initial rate, policies, calibration, robustness to batch size and bad options."""
import pytest
import torch

from mmdyn.layers.calibration import follow_quantiles
from mmdyn.layers.gate import ConfidenceGate, Gate


def test_starts_87_percent_open_whatever_the_image():
    gate = Gate(64)
    _, logit, _ = gate(torch.randn(100, 64))
    assert torch.sigmoid(logit).sub(0.8699).abs().max() < 0.01


def test_policies():
    gate = Gate(8, policy='expected').eval()
    pooled = torch.randn(50, 8)
    with torch.no_grad():
        gate.fc2.weight.normal_(std=3)
        expected, logit, _ = gate(pooled)
        torch.testing.assert_close(expected, torch.sigmoid(logit))
        gate.policy = 'argmax'
        assert torch.equal(gate(pooled)[0], (expected > 0.5).float())
        gate.open_probability = 0.9
        assert torch.equal(gate(pooled)[0], (expected > 0.9).float())
        gate.policy = 'sample'
        rates = torch.stack([gate(pooled)[0] for _ in range(4000)]).mean(0)
    assert (rates - expected).abs().max() < 5 * 0.5 / 4000**0.5


def test_open_probability_0_opens_all_and_1_none():
    gate = Gate(8, open_probability=0.0).eval()
    assert gate(torch.randn(9, 8))[0].mean() == 1
    gate.open_probability = 1
    assert gate(torch.randn(9, 8))[0].mean() == 0


@pytest.mark.parametrize('target', [0.3, 0.5, 0.9])
def test_calibration_opens_for_the_target_share_of_images(target):
    gate = Gate(16, open_probability='calibrated', target_rate=target)
    with torch.no_grad():
        gate.fc2.weight.normal_()
        for _ in range(400):
            logit = gate(torch.randn(64, 16))[1]
            offset = logit - gate.quantile
            follow_quantiles([[gate]], [target], (offset > 0).float().mean()[None], offset.abs().mean()[None])
        rate = gate.eval()(torch.randn(20_000, 16))[0].mean().item()
    assert abs(rate - target) < 0.03


def test_the_calibration_is_in_the_checkpoint():
    assert {'quantile', 'spread', 'calibration_steps'} <= set(Gate(4).state_dict())


@pytest.mark.parametrize('norm', ['LN', 'BN', None])
def test_a_training_batch_of_one_image_works(norm):
    gate = Gate(8, norm=norm)
    decision, logit, _ = gate(torch.randn(1, 8))
    decision.sum().backward()
    assert logit.isfinite().all()
    # Through the sample even of one image, the gradient reaches the first layer.
    assert gate.fc1.weight.grad.abs().sum() > 0


def test_infinite_and_half_precision_features_give_finite_logits():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        pooled = torch.tensor([[float('inf'), -float('inf'), 1e4, 0]], dtype=dtype)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            outputs = Gate(4)(pooled), ConfidenceGate(4, num_classes=3)(pooled)
        for decision, logit, _ in outputs:
            assert logit.dtype == torch.float32 and logit.isfinite().all() and decision.isfinite().all()


@pytest.mark.parametrize('estimator', ['straight_through', 'reinmax', 'taught'])
def test_a_taught_gate_alone_leaves_the_features_alone(estimator):
    pooled = torch.randn(3, 4, requires_grad=True)
    gate = Gate(4, estimator=estimator).train()
    torch.nn.init.normal_(gate.fc2.weight)
    gate(pooled).logit.sum().backward()
    assert gate.fc1.weight.grad.any() and (pooled.grad is None) == (estimator == 'taught')


@pytest.mark.parametrize('options, message', [
    (dict(policy='greedy'), 'policy must be one of .*greedy'),
    (dict(open_probability=1.5), r'open_probability must lie in \[0.0, 1.0\], got 1.5'),
    (dict(open_probability='auto'), "'calibrated', got 'auto'"),
    (dict(temperature=0), 'temperature must be above 0'),
    (dict(temperature=-1), 'temperature'),
    (dict(hidden_channels=0), r'hidden_channels must be an int in \[1, 65536\], got 0'),
    (dict(norm='GN'), 'norm must be one of .*GN'),
])
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Gate(8, **options)
