"""Decisions can be indexed, copied and pickled, also while they carry a graph."""
import copy
import pickle

import pytest
import torch

from mmdyn.layers.decisions import Decisions


def decisions_with_graph() -> Decisions:
    decisions = Decisions(torch.tensor([[8, 8], [4, 8]]), (8, 8), {'layer1.0': 0.5})
    decisions.gates['layer1.0'] = torch.tensor([1.0, 0.0], requires_grad=True) * 1
    decisions.adjacency['layer2'] = torch.rand(2, 3, 3, requires_grad=True) * 1
    return decisions


def test_one_image_is_a_batch_of_one():
    decisions = decisions_with_graph()
    for index in (1, -1):
        one = decisions[index]
        assert len(one) == 1
        assert one.sizes.tolist() == [[4, 8]]
        assert one.gates['layer1.0'].tolist() == [0.0]
        assert torch.equal(one.adjacency['layer2'][0], decisions.adjacency['layer2'][1])


def test_copies_and_pickles_drop_the_graph_and_keep_the_values():
    decisions = decisions_with_graph()
    for other in (copy.deepcopy(decisions), pickle.loads(pickle.dumps(decisions))):
        assert not other.gates['layer1.0'].requires_grad
        assert torch.equal(other.gates['layer1.0'], decisions.gates['layer1.0'])
        assert other.target_rates == {'layer1.0': 0.5}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_in_one_copy_nothing_is_lost(dtype):
    decisions = decisions_with_graph()
    decisions.sizes = torch.tensor([[8191, 3], [2**24, 1]])
    decisions.gate_logits['layer1.0'] = torch.randn(2, dtype=dtype)
    decisions.gate_features['layer1.0'] = torch.randn(2, 5)
    copied = decisions._in_one_copy()
    assert torch.equal(copied.sizes, decisions.sizes) and copied.sizes.dtype == torch.int64
    for group in ('gates', 'gate_logits', 'gate_features', 'adjacency'):
        ours, theirs = getattr(copied, group), getattr(decisions, group)
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            assert torch.equal(ours[name], value) and ours[name].dtype == value.dtype and not ours[name].requires_grad


def test_repr_says_what_was_decided():
    assert repr(decisions_with_graph()) == 'Decisions(2 images, 1 gates, 50% open, 1 wired stages)'
