"""Looks at the data that a config names before anything is built.

A missing folder or a broken annotation file would otherwise show up minutes later, as an error of another library or as
a training run on no images at all.
"""
import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from mmengine import dist
from mmengine.config import Config

from .config_parts import type_name
from .errors import InputError

# They fetch what is missing.
DOWNLOADING_DATASETS = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
# Larger files, such as COCO's own, take long to parse twice: only their two ends are looked at.
LARGEST_PARSED_FILE = 64 * 2**20
COCO_LISTS = ('images', 'annotations', 'categories')
# Of a folder that is a data set by itself: of ImageNet's 1.3 million, those of the first classes.
SAMPLED_IMAGES = 2000
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')


def check_datasets(cfg: Config, splits: tuple[str, ...]) -> None:
    """Checks the files and folders of a config's data sets and evaluators; to be called once the process group is up.

    One process of each machine looks, and all are told.

    Args:
        cfg: The whole config; its ``data_source`` may say in words where its data come from.
        splits: Of 'train', 'val' and 'test', those that are going to be used.

    Raises:
        InputError: On every rank. Lists everything that is absent, empty or malformed, with the key of the config to
            change.
    """
    looks = os.environ.get('LOCAL_RANK', '0') == '0'
    found = dist.all_gather_object(find_problems(cfg, splits) if looks else [])
    problems = dict.fromkeys(chain.from_iterable(found))
    if problems:
        lines = ['the data cannot be used:', *(f'- {problem}' for problem in problems)]
        if cfg.get('data_source'):
            lines.append(f"The config's own data: {cfg.data_source}")
        raise InputError('\n'.join(lines))


def find_problems(cfg: Config, splits: tuple[str, ...]) -> list[str]:
    """What is wrong with the data of a config, in words."""
    problems = []
    for split in splits:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        for key, leaf in _leaves(dataset, f'{split}_dataloader.dataset'):
            # A test set may come without ground truth.
            problems += check_dataset(leaf, key, labelled=split != 'test')
        for key, evaluator in _leaves(cfg.get(f'{split}_evaluator'), f'{split}_evaluator'):
            problems += check_evaluator(evaluator, key)
    return problems


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The dataset (or evaluator) configs in a nest of wrappers and lists, each with its key."""
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _leaves(item, f'{key}.{index}')
    elif isinstance(node, Mapping):
        inner = [name for name in ('dataset', 'datasets') if name in node]
        for name in inner:
            yield from _leaves(node[name], f'{key}.{name}')
        if not inner:
            yield key, node


def _is_remote(node: Mapping[str, Any]) -> bool:
    backend = node.get('backend_args') or {}
    return backend.get('backend', 'local') != 'local' or '://' in str(node.get('data_root') or '')


def check_dataset(dataset: Mapping[str, Any], key: str, *, labelled: bool = True) -> list[str]:
    """What is wrong with the files of one dataset config, in words; nothing for data that is not on a local disk."""
    kind = type_name(dataset)
    if _is_remote(dataset) or kind in DOWNLOADING_DATASETS:
        return []
    root = dataset.get('data_root') or ''
    if root and not os.path.isdir(root):
        return [f'{key}.data_root: expected a folder, found {_found(root)} at {root}']
    problems = []
    folders = _image_folders(dataset)
    for name, folder in folders.items():
        if not os.path.isdir(folder):
            problems.append(f'{key}.{name}: expected a folder of images, found {_found(folder)} at {folder}')
        elif not any(files for _, _, files in os.walk(folder)):
            problems.append(f'{key}.{name}: expected a folder of images, found no file in {folder}')
        elif not dataset.get('ann_file'):  # so what is in the folder is the data set
            problems += [f'{key}.{name}: expected images, found an empty file at {path}' for path in _empty_images(folder)]
    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file:
        path = os.path.join(root, ann_file)
        try:
            content = read_annotations(path)
            if kind == 'CocoDataset' and content is not None:
                _check_coco(content, path, dataset, None if problems else folders.get('data_prefix.img'), labelled)
        except InputError as error:
            problems.append(f'{key}.ann_file: {error}')
    return problems


def check_evaluator(evaluator: Mapping[str, Any], key: str) -> list[str]:
    """What is wrong with an evaluator's annotation file, which is named apart from the dataset's."""
    path = evaluator.get('ann_file')
    if not isinstance(path, str) or not path or _is_remote(evaluator) or '://' in path:
        return []
    try:
        read_annotations(path)
    except InputError as error:
        return [f'{key}.ann_file: {error}']
    return []


def _found(path: str) -> str:
    return 'a file' if os.path.isfile(path) else 'a folder' if os.path.isdir(path) else 'nothing'


def _image_folders(dataset: Mapping[str, Any]) -> dict[str, str]:
    """Key below the dataset's -> folder, for each folder that the dataset reads from."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    if isinstance(prefix, str):
        return {'data_prefix': os.path.join(root, prefix)}
    named = {f'data_prefix.{name}': os.path.join(root, folder or '') for name, folder in prefix.items()}
    return {name: folder for name, folder in named.items() if folder} or ({'data_root': root} if root else {})


def _empty_images(folder: str) -> list[str]:
    """Up to five images without content, which OpenCV would not decode and not name; of a sample of the folder's."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
             if name.lower().endswith(IMAGE_SUFFIXES))
    return list(islice((path for path in islice(paths, SAMPLED_IMAGES) if os.path.getsize(path) == 0), 5))


def read_annotations(path: str) -> Any:
    """Reads an annotation file.

    Args:
        path: JSON if it ends in .json; anything else only has to be there and not to be empty.

    Returns:
        The content, or None where it was not parsed.

    Raises:
        InputError: The file is absent, empty, cut off or not JSON.
    """
    if not os.path.isfile(path):
        raise InputError(f'expected an annotation file, found {_found(path)} at {path}')
    size = os.path.getsize(path)
    if size == 0:
        raise InputError(f'expected an annotation file, found an empty one at {path}')
    if not path.endswith('.json'):
        return None
    if size > LARGEST_PARSED_FILE:
        with open(path, 'rb') as file:
            first = file.read(64).lstrip()[:1]
            file.seek(-64, os.SEEK_END)
            last = file.read().rstrip()[-1:]
        if first + last not in (b'{}', b'[]'):
            raise InputError(f'expected a JSON file that ends as it begins, found {first + last!r} in {path}: cut off?')
        return None
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except ValueError as error:
        raise InputError(f'expected JSON, found a malformed file at {path} ({error})') from None


def _check_coco(content: Any, path: str, dataset: Mapping[str, Any], folder: str | None, labelled: bool) -> None:
    """Raises InputError unless the content is COCO's, with images that are there and classes that are wanted."""
    needed = COCO_LISTS if labelled else ('images', 'categories')
    lists = {name: content.get(name) for name in needed} if isinstance(content, Mapping) else {}
    bad = [name for name in needed if not isinstance(lists.get(name), list) or not lists[name]]
    if bad:
        raise InputError(f'expected COCO annotations with lists of {", ".join(needed)}, '
                         f'found no {", ".join(bad)} in {path}')
    if not all(isinstance(item, Mapping) for name in needed for item in lists[name]):
        raise InputError(f'expected COCO annotations whose lists hold objects, found other values in {path}')
    first_image = lists['images'][0].get('file_name')
    if folder and not (first_image and os.path.isfile(os.path.join(folder, first_image))):
        raise InputError(f'expected its images in {folder}, found no {first_image} there')
    wanted = (dataset.get('metainfo') or {}).get('classes')
    present = [category.get('name') for category in lists['categories']]
    if isinstance(wanted, (list, tuple)) and not set(wanted) & set(present):
        raise InputError(f'expected some of the classes {", ".join(wanted)} (metainfo.classes), '
                         f'found {", ".join(map(str, present))} in {path}')
