"""The loss of the classifier between the blocks: value, gradient, mixed labels, and what it is linked to."""
from collections import OrderedDict

import pytest
import torch
from toy import SMALL_AIG, Classifier
from torch import nn
from torch.nn.functional import cross_entropy

from mmdyn.layers.decisions import Decisions
from mmdyn.losses import GateClassLoss

# The last block is the one that reads what the classifier reads: 8 channels.
GATED = dict(SMALL_AIG, gate=dict(num_classes=2), target_rates=[1, 1, 1, None])


def decisions(**features) -> Decisions:
    out = Decisions(torch.full((4, 2), 8), (8, 8))
    out.gate_features = OrderedDict(features)
    return out


def linked(model: nn.Module, **options) -> GateClassLoss:
    loss = GateClassLoss(classifier='head', **options)
    loss.link(model)
    return loss


def test_value_and_gradient():
    model = Classifier(GATED)
    a, b = (torch.randn(4, 8, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 1, 1])
    loss = linked(model, loss_weight=0.5)(decisions(a=a, b=b), labels)
    wanted = 0.25 * (cross_entropy(model.head(a), labels) + cross_entropy(model.head(b), labels))
    torch.testing.assert_close(loss, wanted)
    of = (a, b, model.head.weight, model.head.bias)
    for got, expected in zip(torch.autograd.grad(loss, of), torch.autograd.grad(wanted, of)):
        torch.testing.assert_close(got, expected)


def test_mixed_labels():
    model = Classifier(GATED)
    features, labels = torch.randn(4, 8), torch.rand(4, 2).softmax(1)
    torch.testing.assert_close(linked(model)(decisions(a=features), labels), cross_entropy(model.head(features), labels))


def test_no_loss_without_gates_that_know_the_classes():
    assert linked(Classifier(SMALL_AIG))(decisions(), torch.zeros(4, dtype=torch.long)) is None


def test_the_gates_follow_the_classifier():
    model = Classifier(GATED)
    loss = linked(model)
    fc = model.backbone.gates()['layer2.1'].fc
    for _ in range(2):
        with torch.no_grad():
            model.head.weight.normal_()
            model.head.bias.normal_()
        loss.update()
        assert torch.equal(fc.weight, model.head.weight) and torch.equal(fc.bias, model.head.bias)
    assert not list(loss.parameters()) and not loss.state_dict()


@pytest.mark.parametrize('rates, classifier, classes, message', [
    ([1, 1, 1, None], 'head.fc', 2, "expected a linear layer as classifier 'head.fc' of Classifier, got NoneType"),
    ([1, 1, 1, None], 'backbone', 2, "classifier 'backbone' of Classifier, got AIGResNet"),
    ([1, 1, 1, None], 'head', 3, 'num_classes=2; backbone.layer2.1.gate reads 8 and has 3'),
    ([1, None, 1, None], 'head', 2, 'a block with 8 and num_classes=2; backbone.layer1.1.gate reads 4 and has 2'),
])
def test_what_does_not_fit_is_named(rates, classifier, classes, message):
    model = Classifier(dict(SMALL_AIG, gate=dict(num_classes=classes), target_rates=rates))
    with pytest.raises(ValueError, match=message):
        GateClassLoss(classifier=classifier).link(model)


def test_bad_weight():
    with pytest.raises(ValueError, match='loss_weight must lie in'):
        GateClassLoss(loss_weight=-1)
