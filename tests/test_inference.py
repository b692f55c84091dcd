"""Inference without a Runner: each prediction carries what its image ran, whichever of MMDetection's ways is taken."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config

import mmdyn

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


@pytest.fixture(scope='module', params=['aig', 'dg'])
def files(request, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Config and checkpoint of a small detector, and two pictures for which it decides differently."""
    folder = tmp_path_factory.mktemp(request.param)
    cfg = Config.fromfile(str(checkout / f'configs/demo/faster-rcnn_{request.param}-r18_fpn_shapes.py'))
    if request.param == 'aig':
        cfg.model.backbone.target_rates = 0.7  # eight gates: the pictures take different routes
    cfg.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [8, 16, 32, 64]})
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = init_detector(cfg, None, palette='coco', device='cpu')
    for decider in model.backbone.deciders():
        for parameter in decider.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))), folder / 'weights.pth')
    cv2.imwrite(str(folder / 'blue.png'), np.full((64, 64, 3), (255, 0, 0), dtype=np.uint8))
    cv2.imwrite(str(folder / 'noise.png'), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return [str(folder / name) for name in ('config.py', 'weights.pth', 'blue.png', 'noise.png')]


def decided(sample) -> list[float]:
    """What one image ran, as numbers, and what that costs."""
    values = [*sample.decisions.gates.values(), *sample.decisions.adjacency.values()]
    assert len(sample.decisions) == 1 and 0 < sample.cost.macs <= sample.cost.dense_macs
    return [*torch.cat([value.flatten() for value in values]).tolist(), sample.cost.macs]


def test_one_line_more_gives_decisions_and_cost(files):
    config, weights, *pictures = files
    model = init_detector(config, weights, device='cpu')
    mmdyn.attach(model)
    one_by_one = [decided(inference_detector(model, picture)) for picture in pictures]
    assert one_by_one[0] != one_by_one[1]
    assert [decided(sample) for sample in inference_detector(model, pictures)] == one_by_one

    inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
    mmdyn.attach(inferencer.model)
    for batch_size in (1, 2):
        samples = inferencer(pictures, batch_size=batch_size, return_datasamples=True)['predictions']
        for ours, wanted in zip(samples, one_by_one):
            np.testing.assert_allclose(decided(ours), wanted, rtol=1e-5)


def test_the_example_prints_boxes_blocks_and_cost(files, run_tool):
    config, weights, picture, _ = files
    lines = run_tool('image_demo.py', picture, config, weights, '--score-threshold', '0').splitlines()
    boxes = [line for line in lines if 'x1, y1, x2, y2' in line]
    assert boxes and all(any(name in line for name in CLASSES) for line in boxes)
    assert {line.partition(': ')[2] for line in lines if line.startswith('layer')} <= {'ran', 'skipped'}
    assert 'layer2.1: ' in '\n'.join(lines) and lines[-1].endswith('%') and 'GMACs of the backbone' in lines[-1]


@pytest.mark.parametrize('spoil, message', [
    (dict(image='README.md'), 'README.md cannot be read as an image'),
    (dict(image='none.png'), 'expected an image, found nothing at none.png'),
    (dict(config='none.py'), 'expected a config file, found nothing at none.py'),
    (dict(weights='README.md'), 'expected a checkpoint, .* found text in README.md'),
    (dict(config='configs/demo/faster-rcnn_r18_fpn_shapes.py'), 'is not of the model that the config describes'),
])
def test_bad_input(files, checkout, run_tool, monkeypatch, spoil, message):
    monkeypatch.chdir(checkout)
    given = dict(zip(('config', 'weights', 'image'), files)) | spoil
    with pytest.raises(SystemExit, match=message):
        run_tool('image_demo.py', given['image'], given['config'], given['weights'])
