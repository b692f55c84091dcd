"""The gate that knows the classes: its open probability, its start, and that labels teach it."""
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
    decision, logit, scores = gate(pooled)
    doubt = 1 - scores.softmax(dim=1).max(dim=1).values
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
    assert decision.tolist() == [1] * 20 and torch.sigmoid(logit).sub(0.9).abs().max() < 0.01
    with torch.no_grad():
        gate.fc.bias[3] = 30
    assert gate(torch.randn(20, 16)).decision.tolist() == [1] * 20
    assert gate.eval()(torch.randn(20, 16)).decision.tolist() == [0] * 20


def test_labels_teach_it_to_shut():
    gate = ConfidenceGate(4, num_classes=2, open_probability=0.1)
    optimizer = torch.optim.SGD(gate.parameters(), lr=1.0)
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    # The first half of the images shows its class, the other does not.
    images = torch.randn(64, 4)
    images[:32, 0] = 6 * labels[:32] - 3.0
    images[32:, 0] = 0
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(gate(images).class_scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    open_ = gate.eval()(images).decision
    assert open_[:32].mean() < 0.2 and open_[32:].mean() > 0.8


@pytest.mark.parametrize('options', [dict(target_rate=0.5), dict(open_probability='calibrated')])
def test_it_has_no_target_rate(options):
    with pytest.raises(ValueError, match='expected no target rate and a number as open_probability, got'):
        ConfidenceGate(8, num_classes=2, **options)


@pytest.mark.parametrize('num_classes', [1, 0, True, 2.5, '10', None])
def test_bad_numbers_of_classes(num_classes):
    with pytest.raises(ValueError, match='gate num_classes must be an int of at least 2, got'):
        ConfidenceGate(8, num_classes=num_classes)
