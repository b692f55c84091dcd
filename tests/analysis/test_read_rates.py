"""Open rates as a log has them."""
import numpy as np

from mmdyn.analysis import open_rates

ROWS = [{'loss': 1.0, 'epoch': 1, 'iter': 40, 'step': 40}, {'open_rate/a': 0.9, 'open_rate/b': 0.8, 'step': 50},
        {'loss': 1.0, 'epoch': 1, 'iter': 100, 'step': 100}, {'open_rate/a': 0.7, 'open_rate/b': 0.6, 'step': 100},
        {'compute/open_rate/a': 0.5, 'compute/open_rate/b': 0.25, 'step': 1}]


def test_rates():
    training = open_rates.read_rates(ROWS, open_rates.TRAINING)
    assert training.blocks == ['a', 'b'] and training.steps.tolist() == [50, 100]
    assert training.values.tolist() == [[0.9, 0.8], [0.7, 0.6]]
    evaluation = open_rates.evaluation_iterations(open_rates.read_rates(ROWS, open_rates.EVALUATION), ROWS)
    assert evaluation.steps.tolist() == [100] and evaluation.values.tolist() == [[0.5, 0.25]]
    resumed = open_rates.read_rates([*ROWS, {'open_rate/a': 0.1, 'open_rate/b': 0.2, 'step': 100}], open_rates.TRAINING)
    assert np.array_equal(resumed.values[-1], [0.1, 0.2])
