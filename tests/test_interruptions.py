"""Kills at random moments, each followed by a resumed training, end where an uninterrupted training ends."""
import os
import random
import signal
import threading
from pathlib import Path
from typing import Optional

import pytest
import torch
from mmengine.hooks import Hook
from processes import start
from toy import SMALL_AIG, Pictures, toy_runner

from mmdyn.engine import InputError, find_last_checkpoint

ITERATIONS, INTERVAL = 80, 4
BACKBONE = dict(SMALL_AIG, target_rates=0.5, open_probability='calibrated')


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillSoon(Hook):
    """Kills the process some time after it has gone through some iterations."""

    def __init__(self, iterations: int, seconds: float) -> None:
        self.iterations, self.seconds = iterations, seconds

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self.iterations == 0:
            threading.Timer(self.seconds, kill).start()
        self.iterations -= 1


def kill_in_call(name: str, count: int) -> None:
    """Kills this process in its n-th call of a function of `os`, before that does anything.

    What was to be synced is cut in half first, as if the writing had not been finished.
    """
    function = getattr(os, name)
    calls = iter(range(count))

    def call(*args):
        if next(calls, None) is None:
            if name == 'fsync':
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            kill()
        return function(*args)

    setattr(os, name, call)


def train(work_dir: str, resume: bool, kill_soon: Optional[tuple] = None, in_call: Optional[tuple] = None) -> None:
    if in_call:
        kill_in_call(*in_call)
    hooks = [dict(type='mmdyn.DynamicModelHook', losses=[dict(type='mmdyn.TargetRateLoss', window=3)])]
    if kill_soon:
        hooks.append(KillSoon(*kill_soon))
    toy_runner(
        work_dir, BACKBONE, hooks=hooks, iters=ITERATIONS, resume=resume,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=ITERATIONS, by_epoch=False)],
        train_dataloader=dict(
            dataset=Pictures(), batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True)),
        default_hooks=dict(checkpoint=dict(
            type='mmdyn.AtomicCheckpointHook', by_epoch=False, interval=INTERVAL, max_keep_ckpts=2)),
        experiment_name=f'{Path(work_dir).name}_{os.getpid()}').train()


# Files are synced (fsync) twice for a checkpoint and twice for `last_checkpoint`, itself and its folder; each is
# renamed (replace) once.
MOMENTS = {
    'half of the checkpoint written': ('fsync', 4),
    'checkpoint written, not renamed': ('replace', 2),
    'checkpoint renamed, last_checkpoint not': ('replace', 3),
}


@pytest.mark.e2e
@pytest.mark.slow
def test_ten_kills(tmp_path):
    assert start(train, str(tmp_path / 'whole'), False) == 0
    draw = random.Random(0)
    kills = [dict(in_call=moment) for moment in MOMENTS.values()]
    kills += [dict(kill_soon=(draw.randrange(1, 5), draw.uniform(0, 0.02))) for _ in range(7)]
    draw.shuffle(kills)
    work_dir = tmp_path / 'killed'
    for number, how in enumerate(kills):
        args = (str(work_dir), number > 0, how.get('kill_soon'), how.get('in_call'))
        assert start(train, *args) == -signal.SIGKILL, (number, how)
        pointer = work_dir / 'last_checkpoint'
        assert not pointer.exists() or torch.load(pointer.read_text(), weights_only=False)['meta']['iter'] > 0
    assert start(train, str(work_dir), True) == 0
    whole, killed = (torch.load(tmp_path / name / f'iter_{ITERATIONS}.pth', weights_only=False)
                     for name in ('whole', 'killed'))
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, killed['state_dict'][key]), key
    assert not list(work_dir.glob('.*.part'))


def checkpoints(folder: Path, *names: str) -> None:
    """Small ones, the last of them the newest, to which `last_checkpoint` points."""
    folder.mkdir(exist_ok=True)
    for age, name in enumerate(reversed(names)):
        torch.save(dict(state_dict=dict(weight=torch.zeros(1000))), folder / name)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    (folder / 'last_checkpoint').write_text(str(folder / names[-1]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def test_resume_takes_what_last_checkpoint_names(tmp_path):
    assert find_last_checkpoint(str(tmp_path / 'none')) is None
    checkpoints(tmp_path, 'epoch_10.pth', 'epoch_9.pth')
    assert find_last_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_9.pth')


@pytest.mark.parametrize('spoil', [cut, Path.unlink, lambda path: path.write_bytes(b''),
                                   lambda path: path.write_bytes(path.read_bytes().replace(bytes(1000), b'1' * 1000))],
                         ids=['cut off', 'gone', 'empty', 'damaged inside'])
def test_resume_goes_back_to_the_newest_whole_checkpoint(tmp_path, spoil, capfd):
    checkpoints(tmp_path, 'epoch_9.pth', 'epoch_10.pth', 'epoch_11.pth')
    (tmp_path / 'best_epoch_9.pth').write_bytes((tmp_path / 'epoch_9.pth').read_bytes())  # has no optimiser state
    spoil(tmp_path / 'epoch_11.pth')
    assert find_last_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')
    assert f'cannot be read: {tmp_path}/epoch_11.pth; going on from {tmp_path}/epoch_10.pth' in capfd.readouterr().err


def test_an_empty_pointer_and_a_moved_work_dir(tmp_path):
    checkpoints(tmp_path / 'old', 'iter_1.pth', 'iter_2.pth')
    (tmp_path / 'old').rename(tmp_path / 'new')
    assert find_last_checkpoint(str(tmp_path / 'new')) == str(tmp_path / 'new' / 'iter_2.pth')
    (tmp_path / 'new' / 'last_checkpoint').write_text('')
    assert find_last_checkpoint(str(tmp_path / 'new')) == str(tmp_path / 'new' / 'iter_2.pth')


def test_nothing_whole_is_an_error(tmp_path):
    checkpoints(tmp_path, 'iter_1.pth')
    cut(tmp_path / 'iter_1.pth')
    with pytest.raises(InputError, match='expects a whole checkpoint in .* none of these can be read: .*iter_1.pth'):
        find_last_checkpoint(str(tmp_path))
