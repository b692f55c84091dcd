"""Draws what images ran: each picture with its detections beside the blocks, or the wiring, of its inference graph.

    python tools/analysis_tools/show_graph.py CONFIG CHECKPOINT street.jpg dog.jpg

Writes a PNG for each image. Blue blocks ran, hatched ones were skipped; of a wired stage, arcs are the open edges,
darker the more they weigh, and pale nodes are dead. Needs no display. To see such pictures while training, add
dict(type='mmdyn.InferenceGraphHook') to custom_hooks.
"""
import argparse
from pathlib import Path
from typing import Optional

import mmcv
import numpy as np
import torch
from mmdyn.cost import CostAccount
from mmdyn.engine import InputError, check_file, check_output_folder, exit_on_bad_input
from mmdyn.visualization import draw_inference_graph, read_graph, read_prediction
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS
from torch import nn
from trained_model import build_model, check_weights, config_parser, read_config, read_weights


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER',
                        help="where to write (default: work_dirs/<the config's name>/inference_graphs)")
    parser.add_argument('--score-threshold', type=float, default=0.3, metavar='SCORE',
                        help='detections below it are not drawn (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='default: %(default)s')
    return parser.parse_args()


def evaluation_dataset(cfg: Config) -> dict:
    """The config of the data set that the config evaluates on, which has the pipeline and the classes."""
    for split in ('test', 'val'):
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if dataset and 'pipeline' in dataset:
            return dataset
    raise InputError('expected test_dataloader.dataset.pipeline or val_dataloader.dataset.pipeline in the config, '
                     'found neither')


def image_pipeline(dataset: dict) -> Compose:
    """The data set's pipeline for images alone, without what loads annotations."""
    return Compose([step for step in dataset['pipeline'] if 'Annotations' not in step['type']])


def class_names(dataset: dict) -> Optional[tuple[str, ...]]:
    """From the config, or else those of the data set's class."""
    own = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    return own or getattr(DATASETS.get(dataset['type']), 'METAINFO', {}).get('classes')


def read_image(path: str) -> np.ndarray:
    """(H, W, 3) RGB."""
    check_file(path, 'an image')
    image = mmcv.imread(path)
    if image is None:
        raise InputError(f'expected an image, {path} cannot be read as one')
    return mmcv.bgr2rgb(image)


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """The model with the checkpoint's weights, in evaluation mode."""
    model, weights = build_model(cfg), read_weights(checkpoint)
    check_weights(model, weights, checkpoint)
    model.load_state_dict(weights, strict=False)
    return model.eval()


def target_names(paths: list[str], folder: Path) -> list[Path]:
    """A PNG in the folder for each image; those of equal names in different folders are numbered."""
    targets: list[Path] = []
    for path in map(Path, paths):
        target, n = folder / f'{path.stem}.png', 1
        while target in targets:
            target, n = folder / f'{path.stem}_{n}.png', n + 1
        targets.append(target)
    return targets


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        pictures = [read_image(path) for path in args.images]
        cfg = read_config(args)
        dataset = evaluation_dataset(cfg)
        model = load_model(cfg, args.checkpoint).to(args.device)
        folder = args.out_dir or Path('work_dirs') / Path(args.config).stem / 'inference_graphs'
        check_output_folder(str(folder))
    pipeline, classes, account = image_pipeline(dataset), class_names(dataset), CostAccount(model.backbone)
    targets = target_names(args.images, folder)
    for n, (path, image, target) in enumerate(zip(args.images, pictures, targets)):
        data = pipeline(dict(img_path=path, img_id=n, sample_idx=n))
        with torch.no_grad():
            sample, = model.test_step(pseudo_collate([data]))
        graph = read_graph(model.backbone, account=account)
        prediction = read_prediction(sample, classes, score_threshold=args.score_threshold)
        drawn = draw_inference_graph(graph, image, prediction, title=Path(path).name)
        mmcv.imwrite(mmcv.rgb2bgr(drawn), str(target))
        ran = sum(block.ran for block in graph.blocks)
        print(f'{path}: {ran} of {len(graph.blocks)} blocks ran, {graph.cost.macs / 1e9:.3f} of '
              f'{graph.cost.dense_macs / 1e9:.3f} GMACs -> {target}')


if __name__ == '__main__':
    main()
