"""Distances between routes: zero for equal outputs, image by image, and what their names say."""
import pytest
import torch

from mmdyn.hooks.route_distance import DISTANCES, logit_distance, map_distance, score_distance


@pytest.mark.parametrize('kind', DISTANCES)
def test_equal_outputs_have_no_distance_and_no_gradient(kind):
    torch.manual_seed(0)
    opened = torch.randn(3, 5) if kind == 'logits' else torch.randn(3, 5, 4, 4)
    routed = opened.clone().requires_grad_()
    distance = DISTANCES[kind](opened, routed)
    assert distance.shape == (3, ) and torch.equal(distance, torch.zeros(3))
    distance.sum().backward()
    torch.testing.assert_close(routed.grad, torch.zeros_like(routed), atol=1e-7, rtol=0)


@pytest.mark.parametrize('kind', DISTANCES)
def test_each_image_has_its_own(kind):
    torch.manual_seed(0)
    opened = torch.randn(3, 5) if kind == 'logits' else torch.randn(3, 5, 4, 4)
    routed = opened.clone()
    routed[1, 0] += 1
    distance = DISTANCES[kind](opened, routed)
    assert distance[0] == distance[2] == 0 and distance[1] > 0


def test_maps_are_compared_in_units_of_the_open_ones():
    opened = torch.full((2, 3, 2, 2), 2.0)
    torch.testing.assert_close(map_distance(opened, opened * 1.5), torch.full((2, ), 0.25))


def test_logits_are_compared_by_the_divergence_of_the_classes():
    opened, routed = torch.randn(4, 6).double(), torch.randn(4, 6).double()
    aim, given = (torch.distributions.Categorical(logits=logits) for logits in (opened, routed))
    torch.testing.assert_close(logit_distance(opened, routed), torch.distributions.kl_divergence(aim, given))


def test_scores_are_compared_by_the_divergence_of_each():
    opened, routed = torch.randn(2, 6, 3, 3).double(), torch.randn(2, 6, 3, 3).double()
    aim, given = (torch.distributions.Bernoulli(logits=logits) for logits in (opened, routed))
    objects = opened.sigmoid().flatten(1).sum(1).mean()
    wanted = torch.distributions.kl_divergence(aim, given).flatten(1).sum(1) / objects
    torch.testing.assert_close(score_distance(opened, routed), wanted)
