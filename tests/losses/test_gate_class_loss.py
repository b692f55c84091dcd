"""The loss on the class scores of gates: value, gradient, mixed labels."""
from collections import OrderedDict

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from mmdyn.layers.decisions import Decisions
from mmdyn.losses import GateClassLoss


def decisions(**scores) -> Decisions:
    out = Decisions(torch.full((4, 2), 8), (8, 8))
    out.class_scores = OrderedDict(scores)
    return out


def test_value_and_gradient():
    a, b = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 2, 1, 1])
    loss = GateClassLoss(loss_weight=0.5)(decisions(a=a, b=b), labels)
    torch.testing.assert_close(loss, 0.5 * (cross_entropy(a, labels) + cross_entropy(b, labels)) / 2)
    loss.backward()
    torch.testing.assert_close(a.grad, 0.25 * (a.softmax(1) - one_hot(labels, 3)).detach() / 4)


def test_mixed_labels():
    a = torch.randn(4, 3)
    labels = torch.rand(4, 3).softmax(1)
    torch.testing.assert_close(GateClassLoss()(decisions(a=a), labels), cross_entropy(a, labels))


def test_no_loss_without_class_scores():
    assert GateClassLoss()(decisions(), torch.zeros(4, dtype=torch.long)) is None


def test_bad_weight():
    with pytest.raises(ValueError, match='loss_weight must lie in'):
        GateClassLoss(loss_weight=-1)
