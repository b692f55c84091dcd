"""Do all processes train the same thing, and has each of them something to train on?"""
import json
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine import dist
from mmengine.config import Config
from torch.utils.data import DataLoader

from .errors import InputError


def check_same_config(cfg: Config) -> None:
    """Compares the config over the ranks; to be called once the process group is up.

    Different configs would end in a deadlock, or in gradients of different models being added.

    Raises:
        InputError: On every rank, naming the first key that differs.
    """
    others = [dict(config) for config in dist.all_gather_object(_flatten(cfg.to_dict()))]
    for rank, other in enumerate(others):
        keys = [key for key in dict.fromkeys([*others[0], *other]) if others[0].get(key) != other.get(key)]
        if keys:
            key = keys[0]
            raise InputError(f'expected the same config on every rank, but {len(keys)} values of rank {rank} differ from '
                             f'those of rank 0: {key} is {other.get(key, "absent")} there and '
                             f'{others[0].get(key, "absent")} on rank 0')


def _flatten(node: Any, key: str = '') -> dict[str, str]:
    """Dotted key -> value as text, for every value of a config."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(node, Mapping) and node:
        items = node.items()
    elif isinstance(node, (list, tuple)) and node:
        items = enumerate(node)
    else:
        return {key: json.dumps(node, default=repr)}
    flat: dict[str, str] = {}
    for name, value in items:
        flat |= _flatten(value, f'{key}.{name}' if key else str(name))
    return flat


def check_shares(loader: DataLoader) -> None:
    """Checks that there is a batch of images of its own for every process.

    MMEngine's sampler fills up: with fewer images than processes, some train on the images of others, and count them
    twice. A loader without a batch would let the others wait for ever, or the training end before it began.

    Raises:
        InputError: On every rank.
    """
    images, processes = len(loader.dataset), dist.get_world_size()
    if images < processes:
        raise InputError(f'expected at least one training image for each of {processes} processes, '
                         f'found {images} in train_dataloader.dataset; start fewer processes')
    batches = dist.all_gather_object(len(loader))
    if min(batches) < 1:
        raise InputError(f'expected at least one batch for each of {processes} processes, but rank '
                         f'{batches.index(min(batches))} has none of {images} images: use a smaller '
                         'train_dataloader.batch_size, fewer processes, or drop_last=False')
