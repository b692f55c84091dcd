"""Points are kept, and the search finds a budget between them."""
import json

import pytest

from mmdyn.analysis.budget_points import Sweep
from mmdyn.engine import InputError

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
