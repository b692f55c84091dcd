"""The demo's detector: its data, and what it is held to."""
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config

from mmdyn.demo import detector
from mmdyn.demo.shapes import CLASSES, make_dataset
from mmdyn.engine import InputError


def runner(ap50: float, rate: float) -> Any:
    scalars = {'val/coco/bbox_mAP': 0.4, 'val/coco/bbox_mAP_50': ap50, 'val/compute/open_rate/layer1.0': rate,
               'val/compute/open_rate/layer1.1': 0.6, 'train/loss': 1.0}
    histories = {name: SimpleNamespace(current=lambda value=value: value) for name, value in scalars.items()}
    backbone = SimpleNamespace(target_rates={'layer1.0': 0.7, 'layer1.1': 0.7})
    return SimpleNamespace(message_hub=SimpleNamespace(log_scalars=histories), log_dir='logs',
                           model=SimpleNamespace(backbone=backbone))


@pytest.mark.parametrize('ap50, rate, failures', [
    (0.8, 0.8, []), (0.4, 0.8, ['AP50 is 0.400, expected at least 0.5']),
    (0.8, 0.3, ['the open rate is 0.25 off its target, expected at most 0.1'])])
def test_the_promise(monkeypatch: pytest.MonkeyPatch, ap50: float, rate: float, failures: list[str]) -> None:
    monkeypatch.setattr(detector, 'build_runner', lambda cfg: runner(ap50, rate))
    monkeypatch.setattr(detector, 'run_training', lambda runner: None)
    report, as_promised = detector.train_detector(Config(), held_to_promise=True)
    assert [line for line in report.splitlines() if 'failed' in line] == [f'demo failed: {text}' for text in failures]
    assert as_promised is not bool(failures) and f'mean             {(rate + 0.6) / 2:.2f}     0.70' in report
    assert f'AP 0.400, AP50 {ap50:.3f}, ' in report and 'logs/vis_data/vis_image' in report
    report, as_promised = detector.train_detector(Config(), held_to_promise=False)
    assert as_promised and 'failed' not in report


def test_the_classes_are_those_of_the_data(checkout: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(checkout / 'configs' / 'demo' / 'faster-rcnn_aig-r18_fpn_shapes.py')
    with pytest.raises(InputError, match="expected a folder in COCO's layout, found nothing at "):
        detector.use_data(cfg, tmp_path / 'nothing')
    make_dataset(tmp_path, train=2, val=1, side=64, max_objects=3, seed=0)
    detector.use_data(cfg, tmp_path)
    assert cfg.model.roi_head.bbox_head.num_classes == len(CLASSES)
    assert cfg.val_dataloader.dataset.metainfo.classes == CLASSES
