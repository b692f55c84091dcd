"""tools/deployment/export_onnx.py as a user calls it."""
import json
import re

import mmcv
import numpy as np
import pytest
from mmdyn import __version__
from mmengine.config import Config

from small_models import TOOD

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

TOOL = 'deployment/export_onnx.py'


def test_a_detector(onnx_file):
    path, out = onnx_file
    assert 'opset 18, one image of 96 x 96, 4 blocks behind branches; on 6 images the decisions are those of PyT' in out
    assert [file.name for file in path.parent.iterdir()] == ['retinanet.onnx']
    model = onnx.load(str(path))
    sizes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
             for value in (*model.graph.input, *model.graph.output)}
    assert sizes == dict(images=[1, 3, 96, 96], boxes=[0, 4], scores=[0], labels=[0], blocks=[1, 4], macs=[2])
    entries = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert entries.pop('dense_macs') > 10**6
    assert entries == dict(
        mmdyn_version=__version__, config='retinanet', classes=['circle', 'square', 'triangle'], channel_order='RGB',
        mean=[100.0, 120.0, 140.0], std=[50.0, 60.0, 70.0], keep_ratio=True, scale=[96, 64], stride=8,
        blocks=['layer1.0', 'layer1.1', 'layer2.0', 'layer2.1'])


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.{family}', depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
                  out_indices=(1, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=8))
data_preprocessor = dict(num_classes=3, mean=[100., 120., 140.], std=[50., 60., 70.], to_rgb=True)
"""


@pytest.mark.parametrize('family, decisions', [
    ('AIGResNet', ['blocks']),
    pytest.param('DGResNet', ['blocks', 'adjacency_layer1', 'adjacency_layer2'], marks=pytest.mark.slow)])
def test_a_classifier(family, decisions, tmp_path, run_tool):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'config.py').write_text(CLASSIFIER.format(family=family))
    for label in ('cat', 'dog'):
        for number in range(3):
            mmcv.imwrite(np.random.randint(0, 256, (50, 70, 3), dtype=np.uint8), f'{tmp_path}/{label}/{number}.png')
    out = run_tool(TOOL, f'{tmp_path}/config.py', '--out', f'{tmp_path}/model.onnx', '--shape', 40, 48,
                   '--images', tmp_path, '--num-images', 4)
    assert re.search(r'on 4 images the decisions are those of PyTorch, outputs within \S+e-0\d of it', out)
    graph = onnx.load(f'{tmp_path}/model.onnx').graph
    assert [output.name for output in graph.output] == ['logits', *decisions, 'macs']
    assert [size.dim_value for size in graph.output[0].type.tensor_type.shape.dim] == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize('option, outputs', [
    ('--raw', ['cls_score_0', 'cls_score_1', 'bbox_pred_0', 'bbox_pred_1']),
    ('--backbone', ['features_0', 'features_1'])])
def test_maps_alone(option, outputs, detector, tmp_path, run_tool):
    run_tool(TOOL, *detector, '--out', tmp_path / 'maps.onnx', '--shape', 64, option)
    graph = onnx.load(str(tmp_path / 'maps.onnx')).graph
    assert [output.name for output in graph.output] == [*outputs, 'blocks', 'macs']


@pytest.mark.parametrize('arguments, message', [
    (['--shape', 64, 60], r'expected --shape in multiples of 8, the stride .*, got 64 x 60: say --shape 64 64'),
    (['--shape', 16], r'expected one or two numbers of at least 32 pixels in --shape, got \[16\]'),
    (['--out', 'model.pth'], r'expected the name of a file that ends in .onnx in --out, got model.pth'),
    (['--out', '/proc/model.onnx'], r'expected a folder that can be written to, but /proc cannot'),
    (['--images', 'nowhere'], r'expected pictures \(.*\) in --images nowhere, found none'),
    (['--cfg-options', 'model.backbone.depth=34'], r'retinanet.pth is not of the model that the config describes'),
    (['--cfg-options', 'model.test_cfg.nms.type=soft_nms'], r"model.test_cfg.nms: expected type 'nms', .* --raw"),
    (['--cfg-options', 'model.backbone.policy=sample'], r"expected a deterministic policy, got policy='sample'"),
])
def test_bad_input(arguments, message, detector, tmp_path, run_tool):
    out = [] if '--out' in arguments else ['--out', tmp_path / 'new' / 'model.onnx']
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, *detector, *out, *arguments)
    assert not list(tmp_path.rglob('*.onnx*'))


def test_a_head_that_cannot_be_exported(detector, tmp_path, run_tool):
    config = Config.fromfile(detector[0])
    config.model.bbox_head = TOOD
    config.dump(tmp_path / 'tood.py')
    with pytest.raises(SystemExit, match='TOODHead turns its maps into boxes in a way of its own.*Say --raw'):
        run_tool(TOOL, tmp_path / 'tood.py', '--out', tmp_path / 'model.onnx', '--shape', 64)


def test_a_graph_that_differs_is_not_kept(detector, tmp_path, run_tool, monkeypatch):
    from mmdyn.deployment import onnx_command
    real = onnx_command.export

    def other(module, example, **options):
        module.backbone.layer1[1].bn2.bias.data += 1
        proto = real(module, example, **options)
        module.backbone.layer1[1].bn2.bias.data -= 1
        return proto

    monkeypatch.setattr(onnx_command, 'export', other)
    with pytest.raises(SystemExit, match='expected outputs within|decisions of the graph differ'):
        run_tool(TOOL, *detector, '--out', tmp_path / 'model.onnx', '--shape', 64, '--backbone')
    assert not list(tmp_path.iterdir())
