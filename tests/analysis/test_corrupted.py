"""Corruptions are repeatable, and decisions are compared with those for the clean images."""
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config

from mmdyn.analysis import corrupted
from mmdyn.analysis.route_dump import RouteDump
from mmdyn.engine import InputError


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


def study(monkeypatch, evaluator):
    monkeypatch.setattr(corrupted, 'build_runner', lambda cfg: SimpleNamespace(test=dict))  # nothing was detected
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[])), test_evaluator=evaluator))
    return list(corrupted.study('static', cfg, 'x.pth', [], [], dynamic=False))


def test_a_detector_that_detects_nothing_has_an_ap_of_0(monkeypatch):
    row, = study(monkeypatch, dict(type='CocoMetric'))
    assert row.ap == 0


def test_another_metric_is_refused(monkeypatch):
    with pytest.raises(InputError, match="expected a CocoMetric in test_evaluator, got .'VOCMetric'"):
        study(monkeypatch, [dict(type='VOCMetric'), dict(type='mmdyn.ComputeMetric')])
