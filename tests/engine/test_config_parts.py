import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config

from mmdyn.engine import class_names, listed, type_name, with_part
from mmdyn.metrics import ComputeMetric


@pytest.mark.parametrize('kind', ['ComputeMetric', 'mmdyn.ComputeMetric', ComputeMetric])
def test_a_type_is_a_name_with_or_without_scope_or_a_class(kind):
    cfg = Config(dict(evaluator=dict(type=kind)))
    assert type_name(cfg.evaluator) == 'ComputeMetric'
    assert with_part(cfg.evaluator, dict(type='mmdyn.ComputeMetric')) == [cfg.evaluator]  # it is there already


def test_a_part_is_added_once():
    own = dict(type=CocoMetric)
    once = with_part(own, dict(type='mmdyn.ComputeMetric'))
    assert [*map(type_name, once)] == ['CocoMetric', 'ComputeMetric']
    assert with_part(once, dict(type='mmdyn.ComputeMetric')) == once


@pytest.mark.parametrize('parts, expected', [(None, []), (dict(a=1), [dict(a=1)]), ((1, 2), [1, 2]), ([], [])])
def test_listed(parts, expected):
    assert listed(parts) == expected


@pytest.mark.parametrize('dataset, expected', [
    (dict(type='mmdet.CocoDataset', metainfo=dict(classes=('ball', 'robot'))), ['ball', 'robot']),
    (dict(type='mmdet.CocoDataset', metainfo=dict(classes='ball')), ['ball']),
    (dict(type='mmpretrain.CustomDataset', classes=['cat', 'dog']), ['cat', 'dog']),
    (dict(type='mmdet.CocoDataset'), list(CocoDataset.METAINFO['classes'])),
    (dict(type=CocoDataset), list(CocoDataset.METAINFO['classes'])),
    ({}, []),
])
def test_class_names(dataset, expected):
    assert class_names(dataset) == expected
