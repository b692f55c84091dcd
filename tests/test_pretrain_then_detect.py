"""From photographs in ImageNet's layout to a COCO detector, with the commands of configs/README.md."""
import re
from pathlib import Path

import mmdet.models  # noqa: F401  registers the detectors
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from processes import run_script

pytestmark = pytest.mark.e2e
PRETRAINING = 'configs/convnet_aig/aig-r50_8xb32_in1k.py'
DETECTOR = 'configs/convnet_aig/faster-rcnn_aig-r50_fpn_1x_coco.py'
# Of a ResNet-50, a narrow ResNet-18 in both.
BACKBONE = ['model.backbone.depth=18', 'model.backbone.base_channels=16', 'model.backbone.target_rates=0.6']


def run(checkout: Path, script: str, *arguments: str) -> str:
    process = run_script(checkout / script, *arguments, folder=checkout)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout + process.stderr


def classifier_options(sample: Path, folder: Path) -> list[str]:
    folder.mkdir()
    for split in ('train', 'val'):
        (folder / split).symlink_to(sample)
    classes = folder / 'classes.txt'
    classes.write_text('\n'.join(sorted(path.name for path in sample.iterdir())))
    options = [*BACKBONE, 'model.head.in_channels=128', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=4',
               'train_dataloader.dataset.pipeline.1.scale=64', 'val_dataloader.dataset.pipeline.2.crop_size=64']
    for split, images in (('train', 12), ('val', 4)):
        options += [f'{split}_dataloader.dataset.data_root={folder}', f'{split}_dataloader.dataset.classes={classes}',
                    f'{split}_dataloader.dataset.indices={images}', f'{split}_dataloader.num_workers=0',
                    f'{split}_dataloader.persistent_workers=False']
    return ['--cfg-options', *options]


def detector_options(coco: Path, checkpoint: Path) -> list[str]:
    options = [*BACKBONE, 'model.neck.in_channels=[16,32,64,128]', 'train_cfg.max_epochs=1',
               f'model.backbone.init_cfg.checkpoint={checkpoint}', 'model.backbone.init_cfg.prefix=backbone.',
               'train_dataloader.dataset.pipeline.2.scale=(128,128)']
    for split in ('train', 'val', 'test'):
        options += [f'{split}_dataloader.dataset.data_root={coco}/', f'{split}_dataloader.dataset.indices=4',
                    f'{split}_dataloader.num_workers=0', f'{split}_dataloader.persistent_workers=False']
    for split in ('val', 'test'):
        options += [f'{split}_evaluator.0.ann_file={coco}/annotations/instances_val2017.json',
                    f'{split}_dataloader.dataset.pipeline.1.scale=(128,128)']
    return ['--cfg-options', *options]


def initial_backbone(checkout: Path, options: list[str]) -> dict[str, torch.Tensor]:
    """The detector's backbone as the first iteration finds it."""
    cfg = Config.fromfile(checkout / DETECTOR)
    cfg.merge_from_dict(dict(option.split('=', 1) for option in options if 'init_cfg' in option))
    cfg.model.backbone.update(depth=18, base_channels=16, target_rates=0.6)
    cfg.model.neck.in_channels = [16, 32, 64, 128]
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.backbone.state_dict()


def test_pretrain_convert_train_and_evaluate(checkout, data_root, tiny_coco, tmp_path):
    sample = data_root / 'imagenet_sample'
    if not sample.is_dir():
        pytest.skip(f'needs photographs: expected the folder {sample}')
    pretrained, checkpoint = tmp_path / 'pretrained', tmp_path / 'aig-r18_in1k.pth'
    log = run(checkout, 'tools/train.py', PRETRAINING, '--work-dir', str(pretrained),
              *classifier_options(sample, tmp_path / 'imagenet'))
    assert 'accuracy/top1' in log and re.search(r'loss_target_rate: \d', log)

    # The bridge wants the detector's backbone: that of this test, not of its config.
    detector = tmp_path / 'detector.py'
    detector.write_text("model = dict(backbone=dict(type='mmdyn.AIGResNet', depth=18, base_channels=16, "
                        "target_rates=0.6, open_probability='calibrated'))")
    log = run(checkout, 'tools/model_converters/pretrain_to_backbone.py', str(pretrained / 'epoch_1.pth'),
              str(checkpoint), '--config', str(detector))
    assert 'missing:   0\n' in log and 'left over: 2, 2 in head\n' in log

    options = detector_options(tiny_coco, checkpoint)
    found = initial_backbone(checkout, options)
    wanted = torch.load(pretrained / 'epoch_1.pth', weights_only=False)['state_dict']
    wanted = {key.removeprefix('backbone.'): value for key, value in wanted.items() if key.startswith('backbone.')}
    assert found.keys() == wanted.keys() and any('.gate.' in key for key in found)
    assert all(torch.equal(found[key], wanted[key]) for key in found)
    assert wanted['layer2.0.gate.calibration_steps'] > 0 and wanted['layer2.0.gate.fc2.weight'].abs().max() > 0

    log = run(checkout, 'tools/train.py', DETECTOR, '--work-dir', str(tmp_path / 'detector'), *options)
    assert re.search(r'loss_target_rate: \d', log) or 'Epoch(val)' in log
    log = run(checkout, 'tools/test.py', DETECTOR, str(tmp_path / 'detector' / 'epoch_1.pth'), '--work-dir',
              str(tmp_path / 'test'), *options)
    assert 'Epoch(test)' in log and 'open_rate' in log
