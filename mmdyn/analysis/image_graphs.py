"""What images ran, as a picture of each, with its detections, beside its inference graph."""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from ..cost import CostAccount
from ..engine import InputError, check_file, check_output_folder, class_names, type_name
from ..visualization import draw_inference_graph, read_graph, read_prediction
from .trained_model import build_model, default_folder, load_weights, read_config


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
    return Compose([step for step in dataset['pipeline'] if 'Annotations' not in type_name(step)])


def read_image(path: str) -> np.ndarray:
    """(H, W, 3) RGB."""
    check_file(path, 'an image')
    image = mmcv.imread(path)
    if image is None:
        raise InputError(f'expected an image, {path} cannot be read as one')
    return mmcv.bgr2rgb(image)


def target_names(paths: Sequence[str], folder: Path) -> list[Path]:
    """A PNG in the folder for each image; those of equal names in different folders are numbered."""
    targets: list[Path] = []
    for path in map(Path, paths):
        target, n = folder / f'{path.stem}.png', 1
        while target in targets:
            target, n = folder / f'{path.stem}_{n}.png', n + 1
        targets.append(target)
    return targets


def draw_graphs(config: str, checkpoint: str, images: Sequence[str], *, out_dir: Path | None, score_threshold: float,
                device: str, cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """Draws what the model of a checkpoint runs for each image; a sentence for each.

    Raises:
        InputError, CheckpointError: If an image, the config or the checkpoint cannot be used.
    """
    pictures = [read_image(path) for path in images]
    cfg = read_config(config, cfg_options)
    dataset = evaluation_dataset(cfg)
    model = build_model(cfg)
    load_weights(model, checkpoint)
    model.to(device).eval()
    folder = out_dir or default_folder(config, checkpoint) / 'inference_graphs'
    check_output_folder(str(folder))
    pipeline, classes, account = image_pipeline(dataset), class_names(dataset), CostAccount(model.backbone)
    targets = target_names(images, folder)
    for n, (path, image, target) in enumerate(zip(images, pictures, targets)):
        data = pipeline(dict(img_path=path, img_id=n, sample_idx=n))
        with torch.no_grad():
            sample, = model.test_step(pseudo_collate([data]))
        graph = read_graph(model.backbone, account=account)
        prediction = read_prediction(sample, classes, score_threshold=score_threshold)
        drawn = draw_inference_graph(graph, image, prediction, title=Path(path).name)
        mmcv.imwrite(mmcv.rgb2bgr(drawn), str(target))
        ran = sum(block.ran for block in graph.blocks)
        yield (f'{path}: {ran} of {len(graph.blocks)} blocks ran, {graph.cost.macs / 1e9:.3f} of '
               f'{graph.cost.dense_macs / 1e9:.3f} GMACs -> {target}')
