"""The confidence gate: its open probability, and that it starts in doubt."""
import pytest
import torch

from mmdyn.layers.gate import ConfidenceGate


def sure_gate(**options) -> ConfidenceGate:
    """Its scores are its features."""
    gate = ConfidenceGate(3, num_classes=3, **options).double().eval()
    with torch.no_grad():
        gate.fc.weight.copy_(torch.eye(3))
    return gate


def test_the_open_probability_is_that_of_the_best_class_being_wrong():
    gate = sure_gate(policy='expected')
    pooled = torch.randn(50, 3, dtype=torch.float64) * 4
    decision, logit, features = gate(pooled)
    assert torch.equal(features, pooled)
    doubt = 1 - pooled.softmax(dim=1).max(dim=1).values
    torch.testing.assert_close(decision, doubt, atol=1e-14, rtol=1e-9)
    torch.testing.assert_close(logit, torch.log(doubt) - torch.log1p(-doubt), atol=1e-6, rtol=1e-9)
    gate.policy, gate.open_probability = 'argmax', 0.1
    assert torch.equal(gate(pooled).decision, (doubt > 0.1).double())
    assert 0 < gate(pooled).decision.mean() < 1


def test_doubt_far_below_the_rounding_of_probabilities_is_still_told_apart():
    gate = sure_gate().float()
    logits = gate(torch.tensor([[40.0, 0, 0], [50.0, 0, 0]])).logit
    torch.testing.assert_close(logits, torch.tensor([-40.0, -50.0]) + torch.tensor(2.0).log())


def test_starts_in_doubt_and_runs_everything_while_training():
    gate = ConfidenceGate(16, num_classes=10)
    decision, logit, _ = gate(torch.randn(20, 16))
    assert decision.tolist() == [1] * 20
    torch.testing.assert_close(torch.sigmoid(logit), torch.full((20, ), 0.9))
    with torch.no_grad():
        gate.fc.bias[3] = 30
    assert gate(torch.randn(20, 16)).decision.tolist() == [1] * 20
    assert gate.eval()(torch.randn(20, 16)).decision.tolist() == [0] * 20


def test_it_does_not_learn_but_hands_the_gradient_on():
    gate = ConfidenceGate(4, num_classes=2)
    pooled = torch.randn(3, 4, requires_grad=True)
    gate(pooled).features.sum().backward()
    assert pooled.grad.tolist() == [[1] * 4] * 3 and not any(p.requires_grad for p in gate.parameters())


@pytest.mark.parametrize('options, got', [(dict(target_rate=0.5), '0.5 and 0.5'),
                                          (dict(open_probability='calibrated'), "'calibrated' and None")])
def test_it_has_no_target_rate(options, got):
    with pytest.raises(ValueError, match=f'while a classifier is unsure, .* a number as open_probability .* got {got}'):
        ConfidenceGate(8, num_classes=2, **options)


@pytest.mark.parametrize('num_classes', [1, 0, True, 2.5, '10', None])
def test_bad_numbers_of_classes(num_classes):
    with pytest.raises(ValueError, match='gate num_classes must be an int of at least 2, got'):
        ConfidenceGate(8, num_classes=num_classes)
