"""Trains, evaluates and shows a small detector with a dynamic backbone; tools/demo.sh calls it."""
import argparse
import subprocess
import sys
from pathlib import Path

from mmdyn.demo.detector import train_detector, use_data
from mmdyn.engine import exit_on_bad_input
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    name: ROOT / f'configs/demo/faster-rcnn_{name}-r18_fpn_shapes.py' for name in ('aig', 'dg')}


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


def main() -> int:
    args = parse_args()
    with exit_on_bad_input():
        cfg = Config.fromfile(CONFIGS[args.backbone])
        cfg.work_dir = str(args.work_dir / args.backbone)
        use_data(cfg, args.data or make_shapes(args.work_dir / 'shapes'))
        report, as_promised = train_detector(cfg, held_to_promise=args.data is None)
    print(report)
    return 0 if as_promised else 1


if __name__ == '__main__':
    sys.exit(main())
