"""A small detector on pictures in COCO's layout: trained, evaluated, and held to what the demo promises."""
import json
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..engine import InputError, build_runner, check_datasets, run_training

# What the demo promises on its own pictures.
MIN_AP50 = 0.5
MAX_RATE_ERROR = 0.1


def use_data(cfg: Config, folder: Path) -> None:
    """Points all datasets of a config at a folder in COCO's layout, with that folder's classes.

    Raises:
        InputError: If the folder is not there, or is not of that layout.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder in COCO's layout, found nothing at {folder}")
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{folder}/'
        cfg[f'{split}_dataloader'].dataset.pop('metainfo', None)  # the config's own classes
    annotations = str(folder / 'annotations' / 'instances_val2017.json')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        for metric in evaluator:
            if metric['type'] == 'CocoMetric':
                metric['ann_file'] = annotations
    check_datasets(cfg, ('train', 'val'))
    categories = json.loads(Path(annotations).read_text())['categories']
    classes = tuple(category['name'] for category in categories)
    cfg.model.roi_head.bbox_head.num_classes = len(classes)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=classes)


def last_values(runner: Runner) -> dict[str, float]:
    """The metrics of the last evaluation."""
    scalars = runner.message_hub.log_scalars
    return {name[len('val/'):]: history.current() for name, history in scalars.items()
            if name.startswith('val/')}


def compare_rates(targets: dict[str, float], metrics: dict[str, float]) -> tuple[str, float]:
    """Open rate against target, block by block, as a table; and how far apart their means are."""
    rates = {name: metrics[f'compute/open_rate/{name}'] for name in targets}
    lines = [f'{name:10} {rate:10.2f} {targets[name]:8.2f}' for name, rate in rates.items()]
    mean, target = (sum(values.values()) / len(targets) for values in (rates, targets))
    return '\n'.join(['\nblock       open rate   target   (deterministic evaluation)', *lines,
                      f'{"mean":10} {mean:10.2f} {target:8.2f}']), abs(mean - target)


def train_detector(cfg: Config, *, held_to_promise: bool) -> tuple[str, bool]:
    """Trains and evaluates.

    Args:
        cfg: Of the detector, with its data.
        held_to_promise: Whether AP50 and open rates are to be what the demo promises; on other pictures than its own
            it is not known what they allow.

    Returns:
        The results, to print, and whether they are as promised.
    """
    start = time.time()
    runner = build_runner(cfg)
    run_training(runner)
    metrics = last_values(runner)
    lines, error = [], 0.0
    if runner.model.backbone.target_rates:
        table, error = compare_rates(runner.model.backbone.target_rates, metrics)
        lines.append(table)
    ap50 = metrics.get('coco/bbox_mAP_50', 0.0)
    lines.append(f'\nAP {metrics.get("coco/bbox_mAP", 0.0):.3f}, AP50 {ap50:.3f}, '
                 f'{time.time() - start:.0f} s; pictures of detections: {runner.log_dir}/vis_data/vis_image')
    failures = []
    if held_to_promise and ap50 < MIN_AP50:
        failures.append(f'AP50 is {ap50:.3f}, expected at least {MIN_AP50}')
    if held_to_promise and error > MAX_RATE_ERROR:
        failures.append(f'the open rate is {error:.2f} off its target, expected at most {MAX_RATE_ERROR}')
    return '\n'.join([*lines, *(f'demo failed: {failure}' for failure in failures)]), not failures
