"""Corruptions are repeatable, and decisions are compared with those for the clean images."""
import numpy as np
import pytest

from mmdyn.analysis import corrupted
from mmdyn.analysis.route_dump import RouteDump


def dump(routes) -> RouteDump:
    routes = np.array(routes, bool)
    gmacs = routes.sum(axis=1) / 1.
    return RouteDump('x', ['a', 'b'], 2, routes, gmacs, np.full(len(routes), 2.), [], None, None, None, [None] * len(routes))


def test_changes_of_a_detector():
    before = dump([[1, 1], [1, 0]])
    assert corrupted._compare(dump([[1, 1], [0, 1]]), before) == (0.75, 0.5, 0.5)
    assert corrupted._compare(None, None) == (None, None, None)


def test_the_same_image_gets_the_same_noise():
    pytest.importorskip('imagecorruptions')
    step = corrupted.CorruptImage(corruption='gaussian_noise', severity=3)
    image = np.full((40, 40, 3), 128, np.uint8)
    first, second, other = (step(dict(img=image.copy(), img_id=n))['img'] for n in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other) and not np.array_equal(first, image)
