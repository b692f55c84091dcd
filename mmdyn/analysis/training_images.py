"""Training images as evaluation sees them: what is to be evaluated on validation images is chosen on these."""
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..engine import InputError, check_datasets, type_name
from .trained_model import evenly, loader_with_images


def training_images(cfg: Config, count: int) -> list[Any]:
    """Batches of images, spread evenly over the training set, through the pipeline of the validation set.

    So nothing is augmented. Annotations are loaded before the images are resized, and go with them: MMDetection's
    evaluation loads them afterwards, in the pixels of the file. Images without objects stay, as in evaluation.

    Args:
        cfg: With ``train_dataloader`` and ``val_dataloader``.
        count: Number of images; all if there are fewer.

    Raises:
        InputError: If there are none.
    """
    if not cfg.get('train_dataloader'):
        raise InputError('expected train_dataloader in the config: budgets and controls are found on training images; '
                         'without them, give --values alone')
    check_datasets(cfg, ('train', ))
    train = cfg.train_dataloader['dataset']
    pipeline = with_annotations(_leaf(cfg.val_dataloader['dataset'])['pipeline'], _leaf(train)['pipeline'])
    settings = dict(cfg.val_dataloader, dataset=_without_augmentation(train, pipeline), drop_last=False)
    loader = loader_with_images(lambda: Runner.build_dataloader(settings, seed=0), 'train')
    return list(evenly(loader, count))


def training_batch(cfg: Config, images: int, size: tuple[int, int]) -> Any:
    """The first batch of a shuffled training set, through the training pipeline, in which images are resized to fit.

    Args:
        cfg: With ``train_dataloader``.
        images: A batch.
        size: (H, W), the largest; where the pipeline keeps the aspect ratio, images are smaller in one direction.
    """
    if not cfg.get('train_dataloader'):
        raise InputError('--training-images expects train_dataloader in the config')
    check_datasets(cfg, ('train', ))
    settings = dict(cfg.train_dataloader, dataset=_resized(cfg.train_dataloader['dataset'], size), batch_size=images,
                    num_workers=0, persistent_workers=False)
    loader = loader_with_images(lambda: Runner.build_dataloader(settings, seed=0), 'train')
    if len(loader.dataset) < images:
        raise InputError(f'--batch {images} is more than the {len(loader.dataset)} training images')
    return next(iter(loader))


def with_annotations(evaluation: Sequence[dict], training: Sequence[dict]) -> list[dict]:
    """The pipeline of evaluation, with the annotations that training loads right behind the first step, the image."""
    first, *others = [step for step in evaluation if not _loads_annotations(step)]
    return [first, *(step for step in training if _loads_annotations(step)), *others]


def _loads_annotations(step: Mapping[str, Any]) -> bool:
    return type_name(step).startswith('LoadAnnotations')


def _leaf(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first data set in a nest of wrappers."""
    inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
    return dataset if inner is None else _leaf(inner)


def _without_augmentation(dataset: Mapping[str, Any], pipeline: list[dict]) -> dict:
    """The data set with another pipeline and all of its images, without what repeats or mixes them."""
    if 'dataset' in dataset:
        return _without_augmentation(dataset['dataset'], pipeline)
    if 'datasets' in dataset:
        return dict(dataset, datasets=[_without_augmentation(inner, pipeline) for inner in dataset['datasets']])
    return dict(dataset, pipeline=pipeline, **({'filter_cfg': None} if 'filter_cfg' in dataset else {}))


def _resized(config: Any, size: tuple[int, int]) -> Any:
    """The settings of a data set in which every step of a pipeline that resizes has one scale."""
    if isinstance(config, Mapping):
        resizes = type_name(config) == 'Resize'
        return {key: (size[1], size[0]) if resizes and key == 'scale' else _resized(value, size)
                for key, value in config.items()}
    return [_resized(value, size) for value in config] if isinstance(config, list) else config
