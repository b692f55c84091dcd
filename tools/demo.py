"""Trains, evaluates and shows a small detector with a dynamic backbone; tools/demo.sh calls it."""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from mmdyn.engine import InputError, build_runner, check_datasets, exit_on_bad_input
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    name: ROOT / f'configs/demo/faster-rcnn_{name}-r18_fpn_shapes.py' for name in ('aig', 'dg')}
# What the demo promises on its own pictures.
MIN_AP50 = 0.5
MAX_RATE_ERROR = 0.1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--backbone', choices=sorted(CONFIGS), default='aig')
    parser.add_argument('--data', type=Path, help="a folder in COCO's layout (default: made here)")
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'demo')
    return parser.parse_args()


def make_shapes(folder: Path) -> Path:
    """Draws the demo's own pictures, unless they are there."""
    if not (folder / 'annotations' / 'instances_val2017.json').is_file():
        script = ROOT / 'tools' / 'misc' / 'make_shapes_dataset.py'
        subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder


def use_data(cfg: Config, folder: Path) -> None:
    """Points all datasets of a config at a folder in COCO's layout, with that folder's classes."""
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


def load_config(args: argparse.Namespace) -> Config:
    cfg = Config.fromfile(CONFIGS[args.backbone])
    cfg.work_dir = str(args.work_dir / args.backbone)
    use_data(cfg, args.data or make_shapes(args.work_dir / 'shapes'))
    return cfg


def last_values(runner: Runner) -> dict[str, float]:
    """The metrics of the last evaluation."""
    scalars = runner.message_hub.log_scalars
    return {name[len('val/'):]: history.current() for name, history in scalars.items()
            if name.startswith('val/')}


def report_rates(runner: Runner, metrics: dict[str, float]) -> float:
    """Prints open rate against target, block by block; returns how far apart their means are."""
    targets = runner.model.backbone.target_rates
    if not targets:
        return 0.0
    print('\nblock       open rate   target   (deterministic evaluation)')
    rates = {name: metrics[f'compute/open_rate/{name}'] for name in targets}
    for name, rate in rates.items():
        print(f'{name:10} {rate:10.2f} {targets[name]:8.2f}')
    mean, target = (sum(values.values()) / len(targets) for values in (rates, targets))
    print(f'{"mean":10} {mean:10.2f} {target:8.2f}')
    return abs(mean - target)


def main() -> int:
    args = parse_args()
    start = time.time()
    with exit_on_bad_input():
        if args.data is not None and not args.data.is_dir():
            raise InputError(f"expected a folder in COCO's layout, found nothing at {args.data}")
        cfg = load_config(args)
    runner = build_runner(cfg)
    runner.train()
    metrics = last_values(runner)
    error = report_rates(runner, metrics)
    ap50 = metrics.get('coco/bbox_mAP_50', 0.0)
    print(f'\nAP {metrics.get("coco/bbox_mAP", 0.0):.3f}, AP50 {ap50:.3f}, '
          f'{time.time() - start:.0f} s; pictures of detections: {runner.log_dir}/vis_data/vis_image')
    if args.data is not None:
        return 0  # What other pictures allow is not known.
    failures = []
    if ap50 < MIN_AP50:
        failures.append(f'AP50 is {ap50:.3f}, expected at least {MIN_AP50}')
    if error > MAX_RATE_ERROR:
        failures.append(f'the open rate is {error:.2f} off its target, expected at most {MAX_RATE_ERROR}')
    for failure in failures:
        print(f'demo failed: {failure}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
