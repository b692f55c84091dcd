"""What the Runner loads goes through mmdyn's reader, and has to fit."""
import os

import pytest
import torch
from mmdyn.checkpoints import CheckpointError
from mmdyn.engine import InputError, guard_initial_weights, guard_load_from, require_fit
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=nn.Linear(2, 3).state_dict(),
                    message_hub=dict(log_scalars=dict(loss=HistoryBuffer([2.0], [1])))), path)
    return str(path)


class Canary:

    def __reduce__(self):
        return os.mkdir, ('canary', )


@pytest.fixture
def carrying_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=nn.Linear(2, 3).state_dict(), meta=Canary()), 'evil.pth')
    yield 'evil.pth'
    assert not os.path.exists('canary')


def test_mmengine_reads_it_through_the_prefix(checkpoint):
    cfg = Config(dict(load_from=checkpoint))
    guard_load_from(cfg)
    guard_load_from(cfg)  # as with a config that a run has written down
    assert cfg.load_from == f'mmdyn-data://{checkpoint}'
    loaded = CheckpointLoader.load_checkpoint(cfg.load_from, map_location='cpu', logger='silent')
    history = loaded['message_hub']['log_scalars']['loss']
    assert type(history) is HistoryBuffer and history.mean() == 2.0
    model = nn.Linear(2, 3)
    require_fit(model, cfg.load_from)
    assert torch.equal(model.weight, loaded['state_dict']['weight'])


def test_the_last_checkpoint_of_the_work_dir(checkpoint, tmp_path):
    (tmp_path / 'last_checkpoint').write_text(checkpoint)
    cfg = Config(dict(load_from=None, resume=True, work_dir=str(tmp_path)))
    guard_load_from(cfg)
    assert cfg.load_from == f'mmdyn-data://{checkpoint}'
    fresh = Config(dict(load_from=None, resume=True, work_dir=str(tmp_path / 'none')))
    guard_load_from(fresh)
    assert fresh.load_from is None


def test_initial_weights_anywhere_in_the_model(checkpoint):
    cfg = Config(dict(model=dict(
        teacher=[dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint))],
        backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')))))
    guard_initial_weights(cfg)
    assert cfg.model.teacher[0].init_cfg.checkpoint == f'mmdyn-data://{checkpoint}'
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnet50'


def test_code_does_not_run(carrying_code):
    with pytest.raises(CheckpointError, match=r'evil.pth carries \w+.mkdir'):
        guard_load_from(Config(dict(load_from=carrying_code)))
    model = dict(init_cfg=dict(type='Pretrained', checkpoint=carrying_code))
    with pytest.raises(CheckpointError, match=r'evil.pth carries \w+.mkdir'):
        guard_initial_weights(Config(dict(model=model)))


def test_absent_files(tmp_path):
    with pytest.raises(InputError, match='expected a checkpoint, found nothing at nowhere.pth'):
        guard_load_from(Config(dict(load_from='nowhere.pth')))


@pytest.mark.parametrize('model, message', [
    (nn.Linear(2, 4), r'of another shape: weight: expected \(4, 2\), got \(3, 2\)'),
    (nn.Sequential(nn.Linear(2, 3)), 'missing: 0.weight; 0.bias'),
    (nn.Linear(2, 3, bias=False), 'not in this model: bias'),
])
def test_what_does_not_fit_is_refused(checkpoint, model, message):
    with pytest.raises(CheckpointError, match=f'is not of the model that the config describes(.|\n)*{message}'):
        require_fit(model, checkpoint)
