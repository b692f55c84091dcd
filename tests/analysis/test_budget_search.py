"""The value that meets a budget, on made-up gates whose cost is known."""
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from mmdyn.analysis import budget_search
from mmdyn.analysis.budget_search import find_value

Measure = Callable[[float], SimpleNamespace]


def gates(probabilities: np.ndarray, static: float = 0.0) -> Measure:
    """(N, L) open probabilities of L gates of equal cost; ``static`` is the share that always runs."""

    def measure(value: float) -> SimpleNamespace:
        share = static + (1 - static) * (probabilities > value).mean()
        return SimpleNamespace(share=share, turns=probabilities.ravel())

    return measure


@pytest.mark.parametrize('budget', [0.1, 0.35, 0.5, 0.725, 0.9])
def test_the_nearest_share_from_below(budget, monkeypatch):
    """Of 40 decisions each costs 1/40."""
    monkeypatch.setattr(budget_search, 'TOLERANCE', 0)
    probabilities = np.random.default_rng(0).uniform(size=(10, 4))
    found = find_value(budget, gates(probabilities), 0.0, 1.0)
    assert found.share == np.floor(budget * 40 + 1e-9) / 40 == (probabilities > found.value).mean()


@pytest.mark.parametrize('budget, share', [(1, 1), (0.99, 0.8), (0.7, 0.6), (0.6, 0.6), (0.41, 0.4), (0.4, 0.4)])
def test_constant_gates_have_coarse_steps(budget, share):
    constant = np.tile([0.71, 0.73, 0.76], (5, 1))
    found = find_value(budget, gates(constant, static=0.4), 0.0, 1.0)
    assert found.share == pytest.approx(share, abs=1e-12)


def test_what_cannot_be_met_ends_at_the_least_that_runs():
    found = find_value(0.3, gates(np.full((2, 2), 0.5), static=0.4), 0.0, 1.0)
    assert found == (1.0, 0.4)


def test_gates_that_read_other_features_once_others_are_closed(monkeypatch):
    """Half of the gates say more, the more of the others are closed: what was seen at one value misleads at another."""
    monkeypatch.setattr(budget_search, 'TOLERANCE', 0)
    early, late = np.random.default_rng(0).uniform(size=(2, 50))
    seen = []

    def measure(value: float) -> SimpleNamespace:
        seen.append(value)
        closed = (early <= value).mean()
        moved = late**(1 / (1 + closed))
        return gates(np.stack([early, moved]))(value)

    found = find_value(0.6, measure, 0.0, 1.0)
    assert 0.58 <= found.share == measure(found.value).share <= 0.6
    assert len(set(seen)) <= budget_search.MAX_PASSES + 2
