"""A regression that has not seen an image tells its cost where features do, and only there."""
import numpy as np

from mmdyn.analysis.closing_costs import rank_correlation
from mmdyn.analysis.cost_regression import cross_predicted


def test_what_features_say_is_found_and_chance_is_not():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 30)) * 10 + 3
    costs = features[:, 0] + rng.normal(size=200)
    assert rank_correlation(cross_predicted(features, costs), costs) > 0.9
    assert abs(rank_correlation(cross_predicted(features, rng.permutation(costs)), costs)) < 0.2


def test_an_image_is_not_told_by_its_own_cost():
    rng = np.random.default_rng(0)
    features, costs = rng.normal(size=(20, 40)), rng.normal(size=20)
    changed = costs.copy()
    changed[3] = 100.0
    before, after = cross_predicted(features, costs), cross_predicted(features, changed)
    same_fold = np.arange(20) % 5 == 3
    np.testing.assert_allclose(before[same_fold], after[same_fold])
    assert not np.allclose(before[~same_fold], after[~same_fold])
