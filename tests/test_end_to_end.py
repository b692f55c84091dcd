"""Stock detectors with dynamic backbones on real COCO images, through mmdet's own tools."""
import re
from pathlib import Path

import mmdet
import pytest
import torch
from processes import run_script

pytestmark = pytest.mark.e2e
MMDET_TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'


def options(tiny_coco: Path) -> list[str]:
    """A few small images, a few iterations, nothing to be fetched."""
    found = ['model.backbone.init_cfg=None', 'model.backbone.base_channels=16',
             'model.neck.in_channels=[64,128,256,512]', 'train_cfg.max_epochs=1',
             'default_hooks.logger.interval=1']
    for split in ('train', 'val', 'test'):
        found += [f'{split}_dataloader.dataset.data_root={tiny_coco}/',
                  f'{split}_dataloader.num_workers=0',
                  f'{split}_dataloader.persistent_workers=False',
                  f'{split}_dataloader.dataset.indices=4']
    for split in ('val', 'test'):
        found += [f'{split}_evaluator.0.ann_file={tiny_coco}/annotations/instances_val2017.json',
                  f'{split}_dataloader.dataset.pipeline.1.scale=(128,128)']
    return found + ['train_dataloader.dataset.pipeline.2.scale=(128,128)']


def run(checkout: Path, tool: str, *arguments: str) -> str:
    process = run_script(MMDET_TOOLS / tool, *arguments, folder=checkout)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout + process.stderr


@pytest.mark.parametrize('config', [
    'convnet_aig/faster-rcnn_aig-r50_fpn_1x_coco.py',
    'convnet_aig/retinanet_aig-r50_fpn_1x_coco.py',
])
def test_mmdets_own_tools_train_resume_and_test(config, checkout, tiny_coco, tmp_path):
    arguments = [f'configs/{config}', '--work-dir', str(tmp_path)]
    log = run(checkout, 'train.py', *arguments, '--cfg-options', *options(tiny_coco))
    assert re.search(r'loss_target_rate: \d', log) and 'open_rate' in log
    assert 'coco/bbox_mAP' in log or 'results of the whole dataset is empty' in log

    log = run(checkout, 'train.py', *arguments, '--resume', '--cfg-options', *options(tiny_coco),
              'train_cfg.max_epochs=2')
    assert set(re.findall(r'Epoch\(train\) +\[(\d)\]', log)) == {'2'}
    checkpoint = tmp_path / 'epoch_2.pth'
    gates = [key for key in torch.load(checkpoint, weights_only=False)['state_dict'] if '.gate.' in key]
    assert gates

    log = run(checkout, 'test.py', arguments[0], str(checkpoint), '--work-dir', str(tmp_path / 'test'),
              '--cfg-options', *options(tiny_coco))
    assert 'Epoch(test)' in log
