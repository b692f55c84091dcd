"""sweep_budget.py: the curve, the search, resuming, and what it refuses."""
import json

import pytest
from mmengine.config import Config

from mmdyn.analysis import budget_sweep
from mmdyn.analysis.budget_figure import draw, reference
from mmdyn.analysis.budget_points import Sweep
from mmdyn.engine import InputError

TOOL = 'analysis_tools/sweep_budget.py'
HEADER = dict(knob='open_probability')


def metrics_at(value: float) -> dict:
    """Two steps: ratio 1, then 0.6, then 0.2."""
    return {'compute/ratio': 1 if value < 0.3 else 0.6 if value < 0.5 else 0.2, 'compute/gmacs_mean': 1,
            'coco/bbox_mAP': 1 - value}


def test_points_are_kept_in_a_file_and_not_made_again(tmp_path):
    made = []

    def evaluate(value):
        made.append(value)
        return metrics_at(value)

    path = tmp_path / 'sweep.json'
    for _ in range(2):
        sweep = Sweep(path, HEADER, evaluate)
        for value in (0.9, 0.0):
            sweep.at(value)
    assert made == [0.9, 0.0]
    assert [point['value'] for point in json.loads(path.read_text())['points']] == [0.0, 0.9]
    with pytest.raises(InputError, match='points of something else'):
        Sweep(path, dict(knob='threshold'), evaluate)


def test_the_search_finds_a_step_between_the_points(tmp_path):
    sweep = Sweep(tmp_path / 'sweep.json', HEADER, metrics_at)
    for value in (0.0, 0.9):
        sweep.at(value)
    found = sweep.find(0.6)
    assert found['ratio'] == 0.6 and 0.3 <= found['value'] < 0.5
    # No value costs 0.8: the closest there is.
    assert sweep.find(0.85)['ratio'] == 1
    with pytest.raises(InputError, match='their ratios lie between 0.200 and 1.000'):
        sweep.find(0.1)


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


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize('name, values, knob', [('aig', (0, 1), 'open_probability'), ('dg', (0, 1.9), 'threshold')])
def test_a_detector(run_tool, configs, checkpoints, data_options, tmp_path, name, values, knob):
    out = run_tool(TOOL, configs[name], checkpoints[name], '--values', *values, '--budget', 1.0,
                   '--out', tmp_path, *data_options)
    assert f'for a budget of 1: {knob} = 0, which costs 1.000 of dense at coco/bbox_mAP' in out
    content = json.loads((tmp_path / 'sweep.json').read_text())
    assert content['knob'] == knob and [point['value'] for point in content['points']] == list(values)
    dense, closed = content['points']
    assert dense['ratio'] == 1 and closed['ratio'] < 0.6
    assert (tmp_path / 'sweep.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('arguments, message', [
    (['--budget', '1.2'], r'in \(0, 1\], got 1.2'),
    (['--static', 'ResNet-20=0.04'], '2'),
    (['--budget', '0'], r'in \(0, 1\], got 0'),
    (['--values', '0.5', '1.2'], r'--values: open_probability must lie in \[0.0, 1.0\], got 1.2'),
    (['--cfg-options', 'model.backbone.depth=34'], r'another depth.* 0 of another shape, \d+ missing, 0 not in'),
    (['--cfg-options', 'model.backbone.depth=50', 'model.neck.in_channels=[256,512,1024,2048]'],
     r'another depth.*[1-9]\d* of another shape'),
    (['--cfg-options', 'model.backbone.policy=expected'], "--cfg-options model.backbone.policy=argmax"),
    (['--cfg-options', 'val_dataloader.dataset.data_root=nowhere'], 'found nothing at nowhere'),
])
def test_bad_input(run_tool, configs, checkpoints, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], *arguments)


def test_no_images(run_tool, configs, checkpoints, data_options, tmp_path):
    with pytest.raises(SystemExit, match='val_dataloader.dataset: expected images'):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], '--out', tmp_path, *data_options,
                 'val_dataloader.dataset.indices=0')


def test_an_absent_checkpoint(run_tool, configs):
    with pytest.raises(SystemExit, match='expected a checkpoint, found nothing at nowhere.pth'):
        run_tool(TOOL, configs['aig'], 'nowhere.pth')
