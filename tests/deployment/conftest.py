"""A small detector as a user exports it, and pictures."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
default_scope = 'mmdet'
model = {model}
root, classes = '{root}', ('circle', 'square', 'triangle')
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', data_root=root, ann_file='annotations/instances_val2017.json', test_mode=True,
                 data_prefix=dict(img='val2017/'), metainfo=dict(classes=classes), pipeline=pipeline))
test_evaluator = dict(type='CocoMetric', ann_file=root + '/annotations/instances_val2017.json', metric='bbox')
custom_hooks = [dict(type='mmdyn.DynamicModelHook')]
test_cfg = dict(type='TestLoop')
"""


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """Five drawn pictures of 64 x 64 pixels, in COCO's layout."""
    root = tmp_path_factory.mktemp('shapes')
    tool = ROOT / 'tools' / 'misc' / 'make_shapes_dataset.py'
    subprocess.run([sys.executable, str(tool), str(root), '--train', '1', '--val', '5', '--size', '64'], check=True)
    return root


@pytest.fixture(scope='session')
def detector(shapes, tmp_path_factory) -> tuple[Path, Path]:
    """Config and checkpoint of a small RetinaNet whose gates depend on the image."""
    from small_models import RESNET, build, one_stage
    folder = tmp_path_factory.mktemp('detector')
    model = one_stage('RetinaNet', dict(type='mmdyn.AIGResNet', **RESNET))
    (folder / 'retinanet.py').write_text(CONFIG.format(model=model, root=shapes))
    torch.save(dict(state_dict=build(model).state_dict()), folder / 'retinanet.pth')
    return folder / 'retinanet.py', folder / 'retinanet.pth'


@pytest.fixture(scope='session')
def onnx_file(detector, shapes, tmp_path_factory) -> tuple[Path, str]:
    """What export_onnx.py writes for it, and what it prints."""
    for package in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(package)
    out = tmp_path_factory.mktemp('onnx') / 'retinanet.onnx'
    command = [sys.executable, str(ROOT / 'tools' / 'deployment' / 'export_onnx.py'), *map(str, detector),
               '--out', str(out), '--shape', '96', '--images', str(shapes), '--num-images', '6']
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return out, process.stdout
