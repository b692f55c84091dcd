"""What is swept over and drawn."""
from dataclasses import replace

import pytest
from mmengine.config import Config

from mmdyn.analysis import budget_sweep
from mmdyn.analysis.budget_evaluations import Setting
from mmdyn.analysis.budget_figure import draw, reference
from mmdyn.analysis.budget_knob import Knob
from mmdyn.analysis.budget_table import Row
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
    rows = [Row(value, ratio, dict(ratio=ratio, gmacs=ratio / 8, metrics={'accuracy/top1': 90 - value}))
            for value, ratio in ((0.1, 1), (0.5, 0.7))]
    controlled = [rows[0], replace(rows[1], fixed=rows[1].own, random=rows[1].own)]
    pictures = []
    for drawn, options in ((rows, {}), (controlled, {}), (rows, dict(static=static)),
                           (rows, dict(static=static, others=static))):
        draw(drawn, 'open_probability', 'accuracy/top1', tmp_path / 'sweep.png', **options)
        pictures.append((tmp_path / 'sweep.png').read_bytes())
    assert len(set(pictures)) == 4 and all(picture.startswith(b'\x89PNG') for picture in pictures)


def test_how_budgets_are_met_in_words():
    knob = Knob('open_probability', 0.0, 1.0)
    say = [budget_sweep.describe(Setting(0.75, 0.6, share), knob) for share in (0.599, 0.5, 0.65)]
    assert say == ['a budget of 0.6: open_probability = 0.75 costs 0.599 of dense on training images',
                   'a budget of 0.6: open_probability = 0.75 costs 0.500 of dense on training images, the next below',
                   'a budget of 0.6 cannot be met: open_probability = 0.75 costs 0.650 of dense on training images, '
                   'with everything closed that can be']


def test_gates_that_are_constant_at_every_budget():
    names = [f'compute/open_probability_std/layer{n}.0' for n in (1, 2)]
    metrics = [dict(zip(names, spreads)) for spreads in ((0.001, 0.001), (0.001, 0.1))]
    assert budget_sweep.constant_throughout(metrics) == ['layer1.0']
    assert budget_sweep.constant_throughout([{'compute/ratio': 1}]) == []
