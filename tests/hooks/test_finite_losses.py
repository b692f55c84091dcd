"""Losses that are not finite: which are named, what is read, and when a training looks for them."""
import math
from pathlib import Path

import pytest
import torch
from toy import SMALL_AIG, KeepSamples, toy_runner

from mmdyn.hooks.finite_losses import FiniteLosses


def add(losses: FiniteLosses, *values: float) -> None:
    for iteration, value in enumerate(values, start=1):
        losses.add(iteration, dict(loss=torch.tensor(2 * value), loss_cls=torch.tensor(value), loss_box=value, acc=math.nan))


def test_finite_ones_pass_however_large():
    losses = FiniteLosses()
    losses.check('work_dir')  # none yet
    add(losses, 1.0, -1.6e38, 0.0)
    losses.check('work_dir')


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_the_first_iteration_and_its_losses_are_named(value):
    losses = FiniteLosses()
    add(losses, 1.0, value, 1.0, math.nan)
    with pytest.raises(FloatingPointError) as caught:
        losses.check('work_dirs/run')
    message = str(caught.value)
    assert f'because of iteration 2: loss is {value}, loss_cls is {value}, loss_box is {value}.' in message
    assert 'work_dirs/run are untouched; resume from the last one with a lower learning rate' in message
    losses.check('work_dirs/run')  # they are looked at once


ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=9, val_interval=4)
EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=2)  # of four iterations


@pytest.mark.parametrize('loop, checkpoint, validates, saved', [
    (dict(ITERATIONS), dict(by_epoch=False, interval=2), False, ['iter_2.pth']),
    (dict(ITERATIONS), dict(by_epoch=False, interval=100), True, []),  # validation would follow iteration 4
    (dict(EPOCHS), dict(by_epoch=True, interval=1), False, []),
    (dict(ITERATIONS, max_iters=4), dict(by_epoch=False, interval=100), False, []),  # the last iteration is saved
], ids=['checkpoint', 'validation', 'epoch', 'end'])
def test_nothing_that_is_not_finite_is_saved_or_validated(tmp_path, monkeypatch, loop, checkpoint, validates, saved):
    monkeypatch.setattr(FiniteLosses, 'are_at_hand', False)  # as on a GPU
    KeepSamples.seen = None
    runner = toy_runner(tmp_path, SMALL_AIG, poison_at=5, train_cfg=loop, metric=KeepSamples() if validates else None,
                        hooks=[dict(type='mmdyn.DynamicModelHook', interval=100)],
                        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **checkpoint)))
    with pytest.raises(FloatingPointError, match='because of iteration 3: .*loss_cls is nan'):
        runner.train()
    assert [path.name for path in Path(tmp_path).glob('*.pth')] == saved
    assert KeepSamples.seen is None
