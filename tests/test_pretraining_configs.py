"""The ImageNet configs: their exact size and cost, and two iterations of each on photographs."""
import json
import os
from pathlib import Path

import cv2
import mmpretrain.datasets
import mmpretrain.models  # noqa: F401  registers the classifier
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from mmdyn.cost import CostAccount

TESTS = Path(__file__).resolve().parent
CONFIGS = TESTS.parent / 'configs'
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('*/*_in1k.py'))
COSTS = json.loads((TESTS / 'pretraining_costs.json').read_text())['configs']
# The table of static baselines, as published: parameters in millions.
PUBLISHED = {'r50': 25.56, 'r101': 44.55, 'x50-32x4d': 25.03, 'regnetx-600mf': 6.2, 'regnetx-1.6gf': 9.19,
             'mobilenet-v2': 3.5}
TORCHVISION = {'r50': 'resnet50', 'r101': 'resnet101', 'x50-32x4d': 'resnext50_32x4d',
               'regnetx-1.6gf': 'regnet_x_1_6gf', 'mobilenet-v2': 'mobilenet_v2'}
EVERYTHING = bool(os.environ.get('MMDYN_TEST_ALL'))
QUICK = ('aig-r50_', 'aig-mobilenet-v2_', 'aig-regnetx-600mf_', 'dg-r50_', 'dg-mobilenet-v2_', 'dg-regnetx-600mf_',
         'dg-x50')


def network(config: str) -> str:
    """Of a config's name, the part that says which static network it is made of."""
    return Path(config).name.partition('_')[0].removesuffix('-static-init').partition('-')[2]


def load(config: str) -> Config:
    cfg = Config.fromfile(CONFIGS / config)
    cfg.model.backbone.init_cfg = None  # Its checkpoint would have to be fetched.
    init_default_scope(cfg.default_scope)
    return cfg


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('config', FILES)
def test_size_and_cost_are_the_static_ones_plus_gates_or_routers(config):
    if 'static-init' in config:
        static_start, scratch = load(config), load(config.replace('-static-init', ''))
        assert static_start.model == scratch.model and static_start.param_scheduler == scratch.param_scheduler
        return
    model = MODELS.build(load(config).model)
    parts = CostAccount(model.backbone).parts((224, 224))
    deciders = sum(map(parameters, model.backbone.deciders()))
    decider_macs = sum(part.macs for part in parts if part.kind in ('gate', 'router'))
    wanted = COSTS[config]
    assert deciders == wanted['decider_parameters'] and decider_macs == wanted['decider_macs']
    assert parameters(model) == wanted['static_parameters'] + deciders
    classifier_macs = model.head.fc.weight.numel()
    assert sum(part.macs for part in parts) + classifier_macs == wanted['static_macs'] + decider_macs
    assert wanted['static_parameters'] / 1e6 == pytest.approx(PUBLISHED[network(config)], abs=0.006)


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvisions_own_networks_have_the_static_size_and_cost(name):
    model = torchvision.models.get_model(TORCHVISION[name]).eval().to('meta')
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224, device='meta'))
    costs, = {(cost['static_parameters'], cost['static_macs']) for config, cost in COSTS.items()
              if network(config) == name}
    assert costs == (parameters(model), counter.get_total_flops() // 2)


@pytest.fixture
def imagenet(data_root, tmp_path):
    """The sample in ImageNet's layout, and the file that names its classes."""
    sample = data_root / 'imagenet_sample'
    if not sample.is_dir():
        pytest.skip(f'needs photographs: expected the folder {sample}')
    for split in ('train', 'val'):
        (tmp_path / split).symlink_to(sample)
    (tmp_path / 'classes.txt').write_text('\n'.join(sorted(path.name for path in sample.iterdir())))
    return tmp_path


@pytest.mark.e2e
@pytest.mark.parametrize('config', [
    file for file in FILES if 'static-init' not in file
    and (EVERYTHING or Path(file).name.startswith(QUICK))])
def test_two_iterations(config, imagenet, tmp_path):
    cfg = load(config)
    for loader, count in ((cfg.train_dataloader, 4), (cfg.val_dataloader, 2)):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(imagenet), classes=str(imagenet / 'classes.txt'), indices=count)
    cfg.train_dataloader.dataset.pipeline[1].scale = 64
    cfg.val_dataloader.dataset.pipeline[2].crop_size = 64
    cfg.train_cfg.max_epochs = 1
    cfg.update(work_dir=str(tmp_path / 'run'), experiment_name=network(config) + str(tmp_path).replace('/', '-'))
    cfg.default_hooks.checkpoint.interval = -1
    runner = Runner.from_cfg(cfg)
    fresh = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == 2
    changed = [key for key, value in runner.model.named_parameters() if not torch.equal(value, fresh[key])]
    assert any('.gate.' in key or '.router.' in key for key in changed) and 'head.fc.weight' in changed
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())
    assert runner.message_hub.get_scalar('val/compute/ratio').current() <= 1


def test_a_broken_image_is_named(imagenet, tmp_path):
    folder = tmp_path / 'broken' / 'n01685808'
    folder.mkdir(parents=True)
    (folder / 'cut-off.JPEG').write_bytes(b'\xff\xd8\xff\xe0' + bytes(50))
    assert cv2.imread(str(folder / 'cut-off.JPEG')) is None
    dataset = DATASETS.build(dict(load('dg_net/dg-r50_8xb32_in1k.py').train_dataloader.dataset, split='',
                                  data_prefix='broken', data_root=str(tmp_path), classes=['n01685808']))
    with pytest.raises(AssertionError, match='failed to load image: .*n01685808/cut-off.JPEG'):
        dataset[0]
