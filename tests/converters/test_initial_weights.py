"""Whether a checkpoint fills the backbone that is to start from it."""
import pytest
import torch
from torch import nn

from mmdyn.backbones import AIGResNet
from mmdyn.checkpoints import CheckpointError
from mmdyn.converters.initial_weights import check_initial_backbone, match_backbone


def test_training_checks_what_its_config_names(tmp_path):
    weights = {f'backbone.{key}': value for key, value in AIGResNet(18).state_dict().items()}
    torch.save(dict(state_dict=weights | {'head.fc.weight': torch.zeros(10, 512)}), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=f'mmdyn-data://{tmp_path}/a.pth', prefix='backbone.')
    model = nn.Module()
    model.backbone = AIGResNet(18, init_cfg=init_cfg)
    check_initial_backbone(model)
    model.backbone = AIGResNet(34, init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match='a.pth is not of the backbone that the config describes'):
        check_initial_backbone(model)


def test_old_checkpoints_without_batch_counts_fit():
    weights = {key: value for key, value in AIGResNet(18).state_dict().items() if 'num_batches' not in key}
    assert match_backbone(AIGResNet(18), weights, 'old.pth').missing
