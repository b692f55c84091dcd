"""What routes have to do with classes, on small inputs."""
import numpy as np
import pytest

from mmdyn.analysis.route_statistics import (class_weights, cluster_routes, group_information, group_test,
                                             information_by_chance, open_rates, unit_information)


def test_open_rates_by_class():
    routes_, held = np.array([[1, 0], [1, 1], [0, 1]], bool), np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    rates = open_rates(routes_, held)
    assert rates[:2].tolist() == [[1, 0.5], [0.5, 1]] and np.isnan(rates[2]).all()


def test_information_of_units():
    classes = np.repeat(np.eye(4, dtype=bool), 25, axis=0)
    told = classes[:, 0] | classes[:, 1]
    bits = unit_information(np.stack([told, ~told, np.ones(100, bool)], axis=1), class_weights(classes))
    assert bits == pytest.approx([1, 1, 0])
    assert group_information(classes.argmax(axis=1), class_weights(classes)) == pytest.approx(2)


def test_by_chance_there_is_little_information():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.eye(4, dtype=bool), 250, axis=0)
    told = (classes[:, 0] | classes[:, 1])[:, None]
    chance = information_by_chance(lambda dealt: unit_information(told, dealt), class_weights(classes), 50, rng)
    assert chance.shape == (50, 1) and 0 <= chance.min() and chance.max() < 0.02


def test_clusters_are_found_and_ordered_by_cost():
    routes_ = np.repeat(np.array([[1, 1, 1, 1], [0, 0, 0, 0]], bool), 10, axis=0)
    assert cluster_routes(routes_, 5, routes_.sum(axis=1)).tolist() == [1] * 10 + [0] * 10
    assert cluster_routes(routes_[:1], 3, np.ones(1)).tolist() == [0]


def test_permutation_test():
    rng = np.random.default_rng(0)
    held = np.repeat(np.eye(6, dtype=bool), 20, axis=0)
    routes_ = np.stack([held[:, :3].any(axis=1), rng.random(120) < 0.5], axis=1)
    test = group_test(routes_, held, ([0, 1, 2], [3, 4, 5]), 500, rng)
    assert test.sizes == (60, 60) and test.p_images == pytest.approx(1 / 501)
    # Of 20 divisions into 3 and 3, this one and its mirror image are the best.
    assert test.exact and test.splits == 20 and test.p_classes == pytest.approx(2 / 20)
    other = group_test(routes_, held, ([0, 3], [1, 4]), 500, rng)
    assert other.p_images > 0.05 and other.p_classes > 0.5


def test_equal_routes_are_not_different():
    held = np.repeat(np.eye(2, dtype=bool), 5, axis=0)
    test = group_test(np.ones((10, 3), bool), held, ([0], [1]), 50, np.random.default_rng(0))
    assert test.distance == 0 and test.p_images == 1 and test.p_classes == 1
