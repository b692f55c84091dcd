"""tools/train.py and tools/test.py as a user starts them, on drawn shapes."""
import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import run_script

from mmdyn.demo.shapes import make_dataset

Run = Callable[..., subprocess.CompletedProcess]

CONFIG = 'configs/demo/faster-rcnn_r18_fpn_shapes.py'
pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def data_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that make the demo's config train on a few small images, for an epoch of two iterations."""
    root = tmp_path_factory.mktemp('shapes')
    make_dataset(root, train=8, val=5, side=64, max_objects=6, seed=0)
    options = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]
    options += [f'{split}_evaluator.ann_file={root}/annotations/instances_val2017.json' for split in ('val', 'test')]
    options += ['train_dataloader.batch_size=4', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
                'default_hooks.logger.interval=1']
    return ['--cfg-options', *options, 'model.backbone.base_channels=8', 'model.neck.in_channels=[8,16,32,64]']


@pytest.fixture(scope='module')
def run(checkout: Path) -> Run:
    return lambda script, *arguments: run_script(checkout / script, *arguments, folder=checkout)


@pytest.fixture(scope='module')
def trained(run: Run, data_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a run of one epoch."""
    work_dir = tmp_path_factory.mktemp('trained')
    process = run('tools/train.py', CONFIG, '--work-dir', str(work_dir), *data_options)
    assert process.returncode == 0, process.stderr
    assert 'coco/bbox_mAP_50' in process.stdout
    return work_dir


def test_training_leaves_a_checkpoint(trained: Path) -> None:
    assert (trained / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert (trained / 'epoch_1.pth').stat().st_size > 0


def test_resume_goes_on_after_the_last_epoch(run: Run, trained: Path, data_options: list[str], tmp_path: Path) -> None:
    (tmp_path / 'last_checkpoint').write_text(str(trained / 'epoch_1.pth'))
    process = run('tools/train.py', CONFIG, '--work-dir', str(tmp_path), '--resume', *data_options,
                  'train_cfg.max_epochs=2')
    assert process.returncode == 0, process.stderr
    epochs = re.findall(r'Epoch\(train\) +\[(\d+)\]', process.stdout)
    assert epochs == ['2', '2']


def test_testing_writes_predictions_and_pictures(run: Run, trained: Path, data_options: list[str],
                                                 tmp_path: Path) -> None:
    process = run('tools/test.py', CONFIG, str(trained / 'epoch_1.pth'), '--work-dir', str(tmp_path), '--out',
                  str(tmp_path / 'predictions.pkl'), '--show-dir', str(tmp_path / 'pictures'), *data_options)
    assert process.returncode == 0, process.stderr
    assert 'coco/bbox_mAP_50' in process.stdout
    assert len(pickle.loads((tmp_path / 'predictions.pkl').read_bytes())) == 5
    assert len(list((tmp_path / 'pictures').iterdir())) == 5


@pytest.mark.parametrize('arguments, message', [
    (['tools/train.py', 'no.py'], 'train.py: expected a config file, found nothing at no.py'),
    (['tools/train.py', CONFIG], 'train_dataloader.dataset.data_root: expected a folder, found nothing at'),
    (['tools/train.py', CONFIG, '--resume', 'no.pth'], 'expected a checkpoint, found nothing at no.pth'),
    (['tools/train.py', 'configs/_base_/dg.py'], 'expected a config with a model, found none in configs/_base_/dg.py'),
    (['tools/test.py', CONFIG, 'no.pth'], 'test.py: expected a checkpoint, found nothing at no.pth'),
    (['tools/test.py', CONFIG, 'setup.py', '--out', 'a.txt'], '--out expects a file that ends in .pkl'),
])
def test_bad_input_ends_with_a_message_and_no_traceback(run: Run, arguments: list[str], message: str) -> None:
    process = run(*arguments, '--cfg-options', 'train_dataloader.dataset.data_root=none')
    assert process.returncode == 1
    assert message in process.stderr and 'Traceback' not in process.stderr
