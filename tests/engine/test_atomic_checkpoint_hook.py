"""AtomicCheckpointHook: resumed equals uninterrupted, and files are whole or not there."""
import random
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SMALL_AIG, KeepSamples, Pictures, toy_runner

from mmdyn.engine import AtomicCheckpointHook
from mmdyn.engine.atomic_backend import AtomicBackend, write_atomically
from mmdyn.hooks import DynamicModelHook

BACKBONE = dict(SMALL_AIG, target_rates=0.5, open_probability='calibrated')
HOOKS = [
    dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', window=3)]),
    dict(type='mmdyn.GateScheduleHook', stop=0.5),
]
SCHEDULE = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
            dict(type='CosineAnnealingLR', T_max=12, by_epoch=False)]


class Augmented(Pictures):
    """Pictures that draw from every generator as they are loaded."""

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        noise = random.random() + np.random.rand() + torch.rand(())
        return item | dict(inputs=item['inputs'] * noise)


class Interrupted(Exception):
    pass


class Interrupt(DynamicModelHook):
    """Stops the training before a given iteration, as a kill would."""

    def __init__(self, at: int, **options) -> None:
        super().__init__(**options)
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.at:
            raise Interrupted


def by_iterations(*, sampler: str = 'InfiniteSampler', workers: int = 0, pictures: type = Augmented) -> dict:
    train = dict(dataset=pictures(), batch_size=2, num_workers=workers, persistent_workers=workers > 0,
                 sampler=dict(type=sampler, shuffle=True))
    return dict(
        train_dataloader=train,
        val_dataloader=dict(dataset=Augmented(), batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler')),
        val_cfg=dict(), val_evaluator=[KeepSamples()],
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=12, val_interval=3),
        param_scheduler=SCHEDULE, optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook', by_epoch=False, interval=4)))


def by_epochs(*, workers: int = 0) -> dict:
    """Three epochs of four iterations."""
    options = by_iterations(sampler='DefaultSampler', workers=workers)
    return options | dict(
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1), log_processor=dict(by_epoch=True),
        default_hooks=dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook', interval=1)))


def train(work_dir: Path, options: dict, *, hooks=(), seed=None, resume: bool = False, stop_at=None) -> dict:
    """Trains, possibly up to an interruption; returns the final weights."""
    hooks = [*HOOKS[1:], *hooks, HOOKS[0] if stop_at is None else Interrupt(stop_at, losses=HOOKS[0]['losses'])]
    runner = toy_runner(work_dir, BACKBONE, hooks=hooks, resume=resume, randomness=dict(seed=seed), **options)
    if stop_at is None:
        runner.train()
    else:
        with pytest.raises(Interrupted):
            runner.train()
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


CALIBRATION = dict(type='mmdyn.CalibrationHook', num_batches=3)


@pytest.mark.parametrize('options, hooks', [
    (by_iterations(), [dict(CALIBRATION, by_epoch=False, interval=2)]),
    (by_iterations(), [dict(type='EMAHook'), dict(CALIBRATION, by_epoch=False, interval=2)]),
    (by_iterations(workers=1, pictures=Pictures), []),
    (by_epochs(), [CALIBRATION]),
    (by_epochs(workers=1), [CALIBRATION]),
], ids=['iterations', 'EMA', 'a worker that draws nothing', 'epochs', 'epochs, a worker'])
def test_resumed_equals_uninterrupted(tmp_path, options, hooks):
    assert_resumed_equals_uninterrupted(tmp_path, options, hooks)


def test_the_batch_norm_of_a_gate_learns_in_every_epoch_resumed_or_not(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONE, 'gate', dict(norm='BN'))
    monkeypatch.setitem(BACKBONE, 'norm_eval', True)
    weights = assert_resumed_equals_uninterrupted(tmp_path, by_epochs(), [])
    batches = {name: value.item() for name, value in weights.items() if 'num_batches_tracked' in name}
    assert {count for name, count in batches.items() if '.gate.' in name} == {12}
    assert {count for name, count in batches.items() if '.gate.' not in name} == {0}


@pytest.mark.parametrize('updates', [1, 2])
def test_taught_gates_go_on_with_what_they_are_drawn_by(tmp_path, monkeypatch, updates):
    for name, value in dict(gate=dict(estimator='taught'), norm_eval=True, zero_init_residual=False).items():
        monkeypatch.setitem(BACKBONE, name, value)
    monkeypatch.setattr(sys.modules[__name__], 'HOOKS', [
        dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TaughtGateLoss')]), HOOKS[1]])
    assert_resumed_equals_uninterrupted(tmp_path, by_iterations(), [
        dict(type='mmdyn.PairedRoutesHook', updates=updates), dict(CALIBRATION, by_epoch=False, interval=2)])


def assert_resumed_equals_uninterrupted(tmp_path: Path, options: dict, hooks: list) -> dict:
    torch.manual_seed(0)
    wanted = train(tmp_path / 'whole', options, hooks=hooks, seed=0)
    torch.manual_seed(0)
    train(tmp_path / 'parts', options, hooks=hooks, seed=0, stop_at=7)
    train(tmp_path / 'parts', options, hooks=hooks, seed=0, resume=True, stop_at=10)
    torch.manual_seed(99)
    # A seed that was drawn at the start of the training is in the checkpoint alone.
    resumed = train(tmp_path / 'parts', options, hooks=hooks, seed=None, resume=True)
    different = [name for name, value in wanted.items() if not torch.equal(value, resumed[name])]
    assert not different
    return wanted


def names(folder: Path) -> set[str]:
    """Of the files in a folder, without the config that the Runner leaves there."""
    return {path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py'}


@pytest.mark.parametrize('kept, wanted', [(1, {'iter_12.pth'}), (2, {'iter_8.pth', 'iter_12.pth'})])
def test_older_checkpoints_are_removed(tmp_path, kept, wanted):
    options = by_iterations()
    options['default_hooks']['checkpoint']['max_keep_ckpts'] = kept
    train(tmp_path, options)
    assert names(tmp_path) == wanted | {'last_checkpoint'}
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_12.pth')


class Score(KeepSamples):
    """2, 1, 3, ...: the best checkpoint changes at the third validation."""

    values = [2, 1, 3, 0]

    def compute_metrics(self, results: list) -> dict:
        return dict(score=self.values.pop(0))


def test_the_best_checkpoint_replaces_the_best_before(tmp_path):
    options = by_iterations() | dict(val_evaluator=[Score()])
    options['train_cfg']['val_interval'] = 4
    options['default_hooks']['checkpoint'].update(max_keep_ckpts=1, save_best='score', rule='greater')
    train(tmp_path, options)
    assert names(tmp_path) == {'iter_12.pth', 'best_score_iter_12.pth', 'last_checkpoint'}


def fail(*args) -> None:
    raise OSError(28, 'No space left on device')


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step):
    path = tmp_path / 'file'
    write_atomically(b'old', path)
    with monkeypatch.context() as patch:
        patch.setattr(f'os.{step}', fail)
        with pytest.raises(OSError):
            write_atomically(b'new', path)
    assert path.read_bytes() == b'old' and names(tmp_path) == {'file'}


def test_nothing_is_removed_before_the_new_file_is_there(tmp_path):
    backend, old, new = AtomicBackend(), tmp_path / 'old', tmp_path / 'new'
    backend.put(b'1', old)
    backend.remove(old)
    assert old.exists()
    backend.remove(new)
    backend.put(b'2', new)
    backend.remove_now(keep={str(new)})
    assert names(tmp_path) == {'new'}


def test_a_checkpoint_that_cannot_be_written_ends_with_words_and_leaves_the_one_before(tmp_path):
    train(tmp_path, by_iterations(), stop_at=5)
    whole = (tmp_path / 'iter_4.pth').read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # Of all ways to run out of space, one that works for root, too.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
        with pytest.raises(OSError, match=r'iter_8.pth could not be written: File too large. '
                                          r'The previous one, .*iter_4.pth, is intact'):
            train(tmp_path, by_iterations(), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / 'iter_4.pth').read_bytes() == whole
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_4.pth')
    assert names(tmp_path) == {'iter_4.pth', 'last_checkpoint'}


def test_leftovers_of_a_killed_write_are_cleared(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / '.iter_4.pth.part').write_bytes(b'half')
    train(tmp_path, by_iterations(), stop_at=5)
    assert names(tmp_path) == {'iter_4.pth', 'last_checkpoint'}


@pytest.mark.parametrize('options', [dict(out_dir='s3://bucket/x'), dict(backend_args=dict(backend='petrel'))])
def test_other_storage_is_refused(options):
    with pytest.raises(ValueError, match=f'writes to local disks, got {next(iter(options))}='):
        AtomicCheckpointHook(**options)
