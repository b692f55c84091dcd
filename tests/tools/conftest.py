"""Data and a checkpoint for the tools."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdyn.demo.shapes import make_dataset

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {name: str(ROOT / 'configs' / 'demo' / f'faster-rcnn_{name}-r18_fpn_shapes.py') for name in ('aig', 'dg')}


@pytest.fixture
def configs() -> dict[str, str]:
    return CONFIGS


@pytest.fixture(scope='session')
def data_options(tmp_path_factory) -> list[str]:
    """Options that point a demo config at five small pictures, and three to train on."""
    root = tmp_path_factory.mktemp('shapes')
    make_dataset(root, train=3, val=5, side=64, max_objects=6, seed=0)
    return ['--cfg-options', f'train_dataloader.dataset.data_root={root}/', f'val_dataloader.dataset.data_root={root}/',
            f'val_evaluator.0.ann_file={root}/annotations/instances_val2017.json']


@pytest.fixture(scope='session')
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Of each demo config, with gates or routers that tell images apart."""
    from mmdyn.analysis.trained_model import build_model
    init_default_scope('mmdet')
    folder, paths = tmp_path_factory.mktemp('checkpoints'), {}
    for name, config in CONFIGS.items():
        generator = torch.Generator().manual_seed(0)
        model = build_model(Config.fromfile(config))
        for decider in model.backbone.deciders():
            for parameter in decider.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        paths[name] = folder / f'{name}.pth'
        torch.save(dict(state_dict=model.state_dict()), paths[name])
    return paths
