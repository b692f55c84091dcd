"""Detectors on corrupted images (Hendrycks & Dietterich, ICLR 2019): accuracy, compute and routes."""
import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from ..engine import InputError, build_runner, listed, type_name, with_part
from .route_dump import RouteDump, read_dump

# Cheap ones of the four kinds: noise, blur, weather, digital.
DEFAULT_CORRUPTIONS = ('gaussian_noise', 'defocus_blur', 'fog', 'jpeg_compression')


def corruption_names() -> list[str]:
    """All that the package imagecorruptions knows.

    Raises:
        InputError: If the package does not work here.
    """
    try:
        from imagecorruptions import get_corruption_names
    except ImportError as error:
        raise InputError(f'corruptions need the package imagecorruptions, which cannot be imported ({error}); '
                         'pip install imagecorruptions-imaug') from None
    return get_corruption_names('all')


@TRANSFORMS.register_module()
class CorruptImage:
    """Corrupts the loaded image; the same image always gets the same noise.

    Args:
        corruption: One of :func:`corruption_names`.
        severity: 1 to 5.
    """

    def __init__(self, *, corruption: str, severity: int) -> None:
        self.corruption = corruption
        self.severity = severity

    def __call__(self, results: dict) -> dict:
        """Changes ``img``, (H, W, 3) BGR of uint8."""
        from imagecorruptions import corrupt
        state = np.random.get_state()
        np.random.seed(int(results.get('img_id', 0)) % 2**32)
        rgb = np.ascontiguousarray(results['img'][..., ::-1])
        corrupted = corrupt(rgb, corruption_name=self.corruption, severity=self.severity)
        np.random.set_state(state)
        results['img'] = np.ascontiguousarray(corrupted[..., ::-1])
        return results


@dataclass(frozen=True)
class CorruptedRow:
    """One line of the table.

    Attributes:
        severity: 1 to 5; 0 for images as they are.
        ap: COCO's mean average precision of boxes.
        ratio: Mean dynamic over dense cost; None for a static backbone.
        changed: Share of the blocks and edges that decide otherwise than for the image as it is.
        rerouted: Share of the images with any such change.
    """

    model: str
    corruption: str
    severity: int
    ap: float
    ratio: Optional[float]
    changed: Optional[float]
    rerouted: Optional[float]


def study(name: str, cfg: Config, checkpoint: str, corruptions: Sequence[str], severities: Sequence[int], *,
          dynamic: bool) -> Iterator[CorruptedRow]:
    """Evaluates on the test set as it is, and then under every corruption at every severity.

    Args:
        name: Of the model, for the table.
        dynamic: Whether its backbone makes decisions to compare.
    """
    clean = None
    levels = [('none', 0), *((corruption, severity) for corruption in corruptions for severity in severities)]
    for corruption, severity in levels:
        with tempfile.TemporaryDirectory() as folder:
            dump = Path(folder) / 'decisions.json' if dynamic else None
            metrics = build_runner(_evaluation(cfg, checkpoint, corruption, severity, dump)).test()
            routes = read_dump(str(dump)) if dynamic else None
        clean = clean or routes
        # Where nothing was detected, CocoMetric returns nothing.
        ap = next((value for key, value in metrics.items() if key.endswith('bbox_mAP')), 0.0)
        yield CorruptedRow(name, corruption, severity, float(ap), *_compare(routes, clean))


def _evaluation(cfg: Config, checkpoint: str, corruption: str, severity: int, dump: Optional[Path]) -> Config:
    """The config of one evaluation: the image corrupted once it is loaded, and the decisions kept."""
    cfg = copy.deepcopy(cfg)
    cfg.load_from = checkpoint
    dataset = cfg.test_dataloader.dataset
    if severity:
        load = next((n for n, step in enumerate(dataset.pipeline) if 'LoadImage' in type_name(step)), None)
        if load is None:
            raise InputError('expected a step that loads an image in test_dataloader.dataset.pipeline, found none')
        step = dict(type='CorruptImage', corruption=corruption, severity=severity)
        dataset.pipeline = [*dataset.pipeline[:load + 1], step, *dataset.pipeline[load + 1:]]
    evaluators = [own for own in listed(cfg.test_evaluator) if type_name(own) != 'ComputeMetric']
    if 'CocoMetric' not in map(type_name, evaluators):
        raise InputError(f'expected a CocoMetric in test_evaluator, got {[*map(type_name, evaluators)]}')
    if dump is not None:
        evaluators.append(dict(type='mmdyn.ComputeMetric', dump=str(dump)))
        cfg.custom_hooks = with_part(cfg.get('custom_hooks'), dict(type='mmdyn.DynamicModelHook'))
    cfg.test_evaluator = evaluators
    return cfg


def _compare(now: Optional[RouteDump], before: Optional[RouteDump]) -> tuple[Optional[float], ...]:
    """Ratio, changed, rerouted of :class:`CorruptedRow`."""
    if now is None:
        return None, None, None
    differs = now.routes != before.routes
    ratio = now.gmacs.mean() / now.dense_gmacs.mean()
    return float(ratio), float(differs.mean()), float(differs.any(axis=1).mean())
