"""Models of a config with the weights of a checkpoint."""
import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..backbones.dynamic_backbone import DynamicBackbone
from ..checkpoints import read_state_dict
from ..cost import CostAccount
from ..engine import InputError, blame, check_config, check_weights, read_config_file


def config_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of mmdet or mmpretrain, with a dynamic backbone')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='values to override')
    return parser


def read_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """A config whose scope is made the default one.

    Args:
        path: Of the file.
        options: Dotted key -> value to override, of ``--cfg-options``.
    """
    cfg = read_config_file(path, options)
    check_config(cfg)
    if 'data_preprocessor' in cfg:
        # MMPretrain's configs have it beside the model; a Runner puts it inside.
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg


def default_folder(config: str, checkpoint: str | None) -> Path:
    """Where the results of an analysis go unless said otherwise: beside the checkpoint, which is the run's own folder."""
    if checkpoint is None or '://' in checkpoint:
        return Path('work_dirs') / Path(config).stem
    return Path(checkpoint).parent


def build_model(cfg: Config, *, dynamic: bool = True) -> nn.Module:
    """The model, without fetching what it would be initialised from.

    Args:
        cfg: Of it.
        dynamic: Whether its backbone has to be a dynamic one.

    Raises:
        InputError: If its backbone is static.
    """
    config = dict(cfg.model, init_cfg=None)
    if 'backbone' in config:
        config['backbone'] = dict(config['backbone'], init_cfg=None)
    with blame('the model of the config cannot be built'):
        model = MODELS.build(config)
    if dynamic and not isinstance(getattr(model, 'backbone', None), DynamicBackbone):
        raise InputError('expected a config with a dynamic backbone, such as '
                         "backbone=dict(type='mmdyn.AIGResNet', ...), "
                         f'got {(cfg.model.get("backbone") or {}).get("type", "none")}')
    return model


def load_weights(model: nn.Module, path: str, prefix: str = '') -> str:
    """Loads a checkpoint of which everything must fit; arguments, result and errors are those of `check_weights`."""
    weights = read_state_dict(path)
    summary = check_weights(model, weights, path, prefix)
    model.load_state_dict(weights, strict=False)
    return summary


def check_size(account: CostAccount, size: tuple[int, int], name: str) -> None:
    """Raises InputError if an image would be smaller than one cell of the backbone's coarsest feature map."""
    stride = account.stride
    if min(size) < stride:
        raise InputError(f'{name} expects at least {stride} x {stride} pixels, the stride of this backbone, '
                         f'got {size[0]} x {size[1]}')


def loader_with_images(build: Callable[[], DataLoader], split: str = 'val') -> DataLoader:
    """A loader whose data set is not empty.

    Args:
        build: Builds it.
        split: For the message: that of ``<split>_dataloader``.

    Raises:
        InputError: If it has no images.
    """
    key = f'{split}_dataloader.dataset'
    try:
        loader = build()
    except ValueError as error:  # mmengine cannot pack a list of no images
        raise InputError(f'{key}: expected images, it cannot be built ({error})') from error
    if not len(loader.dataset):
        raise InputError(f'{key}: expected images, found none')
    return loader


def evenly(loader: DataLoader, count: int, *, num_workers: int = 0) -> DataLoader:
    """A loader of so many of another's images, at even distances, or of all: those that are side by side are often alike."""
    images = len(loader.dataset)
    chosen = [n * images // count for n in range(count)] if count < images else range(images)
    return DataLoader(Subset(loader.dataset, chosen), batch_size=loader.batch_sampler.batch_size, num_workers=num_workers,
                      collate_fn=loader.collate_fn)
