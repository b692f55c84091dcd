"""tools/dist_train.sh and tools/dist_test.sh as a user starts them, on two CPU processes and drawn shapes."""
import os
import pickle
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run_script, start_ranks

from mmdyn.demo.shapes import make_dataset

CONFIG = 'configs/demo/faster-rcnn_aig-r18_fpn_shapes.py'
pytestmark = pytest.mark.e2e

RAISING_HOOK = '''
import torch.distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class RaiseOnRank1(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 1 and torch.distributed.get_rank() == 1:
            raise RuntimeError('rank 1 has had enough')
'''


def free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def run(checkout: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | dict(
        MMDYN_PYTHON=sys.executable, PORT=str(free_port()), CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1') | environment
    return subprocess.run(['bash', *command], cwd=checkout, env=environment, capture_output=True, text=True, timeout=1800)


def synchronised_config(checkout: Path, folder: Path) -> str:
    """The demo's config with running statistics that are those of all ranks: a checkpoint holds rank 0's alone."""
    config = folder / 'synchronised.py'
    config.write_text(f"_base_ = '{checkout / CONFIG}'\n"
                      "custom_hooks = [*_base_.custom_hooks, dict(type='SyncBuffersHook')]\n")
    return str(config)


@pytest.fixture(scope='module')
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that make the demo's config train on a few small images, for two epochs of two iterations."""
    root = tmp_path_factory.mktemp('shapes')
    make_dataset(root, train=8, val=5, side=64, max_objects=6, seed=0)
    options = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]
    options += [f'{split}_evaluator.0.ann_file={root}/annotations/instances_val2017.json' for split in ('val', 'test')]
    options += ['train_dataloader.batch_size=2', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=3',
                'default_hooks.checkpoint.max_keep_ckpts=2',
                'default_hooks.logger.interval=1', 'default_hooks.visualization.draw=False',
                'custom_hooks.1.num_batches=2', 'val_dataloader.batch_size=1', 'test_dataloader.batch_size=1']
    return ['--cfg-options', *options, 'model.backbone.base_channels=8', 'model.neck.in_channels=[8,16,32,64]']


@pytest.fixture(scope='module')
def checkpoint(checkout: Path, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have trained in two epochs."""
    work_dir = tmp_path_factory.mktemp('trained')
    process = run(checkout, 'tools/dist_train.sh', synchronised_config(checkout, work_dir), '2',
                  '--work-dir', str(work_dir), *options)
    assert process.returncode == 0, process.stderr
    # 8 images, 2 processes, 2 images each: two iterations.
    assert re.findall(r'Epoch\(train\) +\[(\d)\]\[(\d)/2\]', process.stdout) == [
        ('1', '1'), ('1', '2'), ('2', '1'), ('2', '2')]
    return work_dir / 'epoch_2.pth'


def test_two_processes_train_on_a_cpu(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=False)
    assert not [name for name in content['state_dict'] if name.startswith('module.')]
    first, second = content['mmdyn_random_states']['ranks']
    assert not torch.equal(first['torch'], second['torch'])  # gates of different ranks draw different samples
    assert (checkpoint.parent / 'last_checkpoint').read_text() == str(checkpoint)


def resume(rank: int, port: int, checkout: str, *arguments: str) -> None:
    """One of two ranks of tools/train.py, as torchrun starts it."""
    variables = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    os.environ |= {name: str(value) for name, value in variables.items()} | dict(CUDA_VISIBLE_DEVICES='')
    os.chdir(checkout)
    sys.argv = ['train.py', *arguments]
    runpy.run_path('tools/train.py', run_name='__main__')


def test_resumed_on_two_ranks_equals_uninterrupted(checkout: Path, checkpoint: Path, options: list[str],
                                                   tmp_path: Path) -> None:
    config = synchronised_config(checkout, tmp_path)
    start_ranks(resume, free_port(), str(checkout), config, '--work-dir', str(tmp_path), '--launcher', 'pytorch',
                '--resume', str(checkpoint.with_name('epoch_1.pth')), *options)
    assert not (tmp_path / 'epoch_1.pth').exists()
    wanted, found = (torch.load(path, weights_only=False) for path in (checkpoint, tmp_path / 'epoch_2.pth'))
    for name, value in wanted['state_dict'].items():
        torch.testing.assert_close(found['state_dict'][name], value, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(found['mmdyn_random_states']['ranks'], wanted['mmdyn_random_states']['ranks']):
        assert torch.equal(mine['torch'], theirs['torch'])


def test_two_ranks_evaluate_as_one(checkout: Path, checkpoint: Path, options: list[str], tmp_path: Path) -> None:
    """Five images: one rank has to be given one of the other's."""
    found = []
    for processes in (1, 2):
        predictions = tmp_path / f'{processes}.pkl'
        arguments = ['--work-dir', str(tmp_path), '--out', str(predictions), *options]
        if processes == 1:
            process = run_script(checkout / 'tools/test.py', CONFIG, str(checkpoint), *arguments, folder=checkout)
        else:
            process = run(checkout, 'tools/dist_test.sh', CONFIG, str(checkpoint), '2', *arguments)
        assert process.returncode == 0, process.stderr
        line = re.search(r'Epoch\(test\).*(coco/bbox_mAP: .*?) +data_time', process.stdout)[1]
        found.append((line, sorted(pickle.loads(predictions.read_bytes()), key=lambda sample: sample['img_id'])))
    (one, ours), (two, theirs) = found
    assert one == two and 'compute/gmacs_mean' in one and 'compute/open_rate/layer1.1' in one
    assert len(ours) == len(theirs) == 5
    for mine, other in zip(ours, theirs):
        for field in ('scores', 'bboxes'):
            np.testing.assert_allclose(mine['pred_instances'][field], other['pred_instances'][field], atol=1e-4)


def test_a_rank_that_raises_takes_the_job_down(checkout: Path, options: list[str], tmp_path: Path) -> None:
    (tmp_path / 'raising_hook.py').write_text(RAISING_HOOK)
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{checkout / CONFIG}'\ncustom_imports = dict(imports=['raising_hook'])\n"
                      "custom_hooks = [*_base_.custom_hooks, dict(type='RaiseOnRank1')]\n")
    process = run(checkout, 'tools/dist_train.sh', str(config), '2', '--work-dir', str(tmp_path / 'work'), *options,
                  PYTHONPATH=str(tmp_path))
    assert process.returncode != 0
    assert re.search(r'Traceback.*RuntimeError: rank 1 has had enough', process.stderr, re.DOTALL)
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_without_arguments_the_scripts_tell_their_usage(checkout: Path, script: str) -> None:
    process = run(checkout, f'tools/{script}')
    assert process.returncode == 2 and f'bash tools/{script} ' in process.stderr


@pytest.mark.parametrize('script, file', [('slurm_train.sh', 'train.py CONFIG --work-dir WORK'),
                                          ('slurm_test.sh', 'test.py CONFIG WORK')])
def test_what_slurm_is_asked_for(checkout: Path, tmp_path: Path, script: str, file: str) -> None:
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    process = run(checkout, f'tools/{script}', 'gpu', 'job', 'CONFIG', 'WORK', '--cfg-options', 'a=1',
                  PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='16', SRUN_ARGS='--time=1 --qos=low')
    assert process.returncode == 0, process.stderr
    assert '--partition=gpu --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8' in process.stdout
    assert '--kill-on-bad-exit=1 --time=1 --qos=low ' in process.stdout
    assert process.stdout.strip().endswith(f'/tools/{file} --launcher slurm --cfg-options a=1')
