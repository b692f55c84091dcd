"""The weighted quantile: the share above it is what was asked for."""
import pytest
import torch

from mmdyn.functional.quantile import upper_quantile


@pytest.mark.parametrize('share, wanted', [(0, 4.0), (0.25, 3.5), (0.5, 2.5), (0.75, 1.5), (1, 1.0)])
def test_equal_weights(share, wanted):
    assert upper_quantile(torch.tensor([3.0, 1, 4, 2]), torch.ones(4), share) == wanted


def test_dear_values_count_more():
    values, weights = torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 1, 2])
    assert upper_quantile(values, weights, 0.5) == 2.5  # the largest alone is half of the weight
    assert upper_quantile(values, weights, 0.75) == 1.5


def test_the_share_of_the_weight_above_it_is_the_one_asked_for():
    torch.manual_seed(0)
    values, weights = torch.randn(999).double(), torch.rand(999).double() + 0.1
    for share in (0.1, 0.4, 0.9):
        above = weights[values > upper_quantile(values, weights, share)].sum() / weights.sum()
        assert abs(above - share) < weights.max() / weights.sum()
