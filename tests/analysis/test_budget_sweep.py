"""What is swept over and drawn."""
import pytest
from mmengine.config import Config

from mmdyn.analysis import budget_sweep
from mmdyn.analysis.budget_figure import draw, reference
from mmdyn.engine import InputError


def test_the_main_metric():
    metrics = {'compute/ratio': 1, 'coco/bbox_mAP_50': 1, 'coco/bbox_mAP': 1}
    assert budget_sweep.main_accuracy(metrics, None) == 'coco/bbox_mAP'
    assert budget_sweep.main_accuracy(metrics, 'coco/bbox_mAP_50') == 'coco/bbox_mAP_50'
    assert budget_sweep.main_accuracy({'own/score': 1}, None) == 'own/score'
    with pytest.raises(InputError, match='the evaluator gives coco/bbox_mAP_50, coco/bbox_mAP'):
        budget_sweep.main_accuracy(metrics, 'recall')


def test_what_counts_is_added_to_any_config(tmp_path):
    cfg = Config(dict(val_evaluator=dict(type='CocoMetric'), model=dict(backbone=dict(type='mmdyn.AIGResNet'))))
    for _ in range(2):
        budget_sweep.prepare(cfg, tmp_path)
        assert [metric['type'] for metric in cfg.val_evaluator] == ['CocoMetric', 'mmdyn.ComputeMetric']
        assert [hook['type'] for hook in cfg.custom_hooks] == ['mmdyn.DynamicModelHook']


def test_other_networks_are_drawn_beside_the_curve(tmp_path):
    static = [reference(text) for text in ('ResNet-20=0.04,87.5', 'a=b=0.1,89')]
    assert static == [('ResNet-20', 0.04, 87.5), ('a=b', 0.1, 89.0)]
    points = [dict(value=v, ratio=r, gmacs=r / 8, metrics={'accuracy/top1': 90 - v}) for v, r in ((0.1, 1), (0.5, 0.7))]
    sizes = []
    for options in ({}, dict(static=static), dict(static=static, others=static)):
        draw(points, 'open_probability', 'accuracy/top1', 0.8, tmp_path / 'sweep.png', **options)
        sizes.append((tmp_path / 'sweep.png').read_bytes())
    assert len(set(sizes)) == 3 and all(size.startswith(b'\x89PNG') for size in sizes)
