"""Reads the routes of many images from what ComputeMetric dumped."""
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np

from ..engine import InputError, check_file
from ..metrics.compute_report import FORMAT, FORMAT_VERSION

HOW_TO_DUMP = ("such a file is written by dict(type='mmdyn.ComputeMetric', dump='decisions.json') in the evaluator, or "
               'by tools/analysis_tools/get_macs.py --dump')


@dataclass(frozen=True)
class RouteDump:
    """The routes of N images through U units: the blocks, and of wired stages the edges.

    Attributes:
        backbone: Class of the backbone.
        units: Names; ``layer1.0`` is a block, ``layer1 0>2`` an edge, the output node last.
        blocks: How many of the units are blocks; they come first.
        routes: (N, U) bool: what was open.
        gmacs: (N,) 1e9 multiply-adds of each image.
        dense_gmacs: (N,) the same of the dense backbone.
        classes: Names of the C classes.
        held: (N, C) bool: which classes each image holds; None where there is no ground truth.
        objects: (N,) number of objects; None where there is no ground truth.
        areas: (N,) mean area of an image's objects in pixels, NaN without objects; None where there are no boxes.
        paths: (N,) image files; None where unknown.
    """

    backbone: str
    units: list[str]
    blocks: int
    routes: np.ndarray
    gmacs: np.ndarray
    dense_gmacs: np.ndarray
    classes: list[str]
    held: Optional[np.ndarray]
    objects: Optional[np.ndarray]
    areas: Optional[np.ndarray]
    paths: list[Optional[str]]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.routes)


def read_dump(path: str) -> RouteDump:
    """Reads a dump.

    Raises:
        InputError: If the file is none, is empty, or its images are not all of the model that its header describes.
    """
    check_file(path, 'a dump of decisions')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file, object_hook=_shrink)
    except ValueError as error:
        raise InputError(f'expected a dump of decisions, {path} is not JSON ({error}); {HOW_TO_DUMP}') from None
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise InputError(f'expected a dump of decisions, {path} is another JSON file; {HOW_TO_DUMP}')
    if content.get('version') != FORMAT_VERSION:
        raise InputError(f'{path}: expected version {FORMAT_VERSION} of the format, got {content.get("version")!r}')
    lacking = [key for key in ('backbone', 'blocks', 'classes', 'images') if key not in content]
    if lacking:
        raise InputError(f'{path}: the dump lacks {", ".join(lacking)}; {HOW_TO_DUMP}')
    images = content['images']
    if not images:
        raise InputError(f'{path}: expected images, the dump holds none')
    edges = _edges(images[0])
    routes = np.array([_route(row, n, content['blocks'], edges, path) for n, row in enumerate(images)])
    units = [*content['blocks'], *(f'{stage} {i}>{j}' for stage, n in edges.items() for i, j in _pairs(n))]
    classes, labels = _classes(content['classes'], images)
    return RouteDump(
        backbone=content['backbone'], units=units, blocks=len(content['blocks']), routes=routes,
        gmacs=np.array([row['macs'] for row in images]) / 1e9,
        dense_gmacs=np.array([row['dense_macs'] for row in images]) / 1e9, classes=classes,
        held=_held(labels, len(classes)), objects=None if labels is None else np.array([len(x) for x in labels]),
        areas=_mean_areas(images), paths=[row.get('path') for row in images])


def order_classes(dump: RouteDump) -> RouteDump:
    """The same with its classes in the order of the blocks that their images run, from few to many.

    All charts of a report show them so; those without images come last.
    """
    if dump.held is None:
        return dump
    blocks, counts = dump.routes[:, :dump.blocks].sum(axis=1), dump.held.sum(axis=0)
    means = np.where(counts, dump.held.T.astype(float) @ blocks / np.maximum(counts, 1), np.inf)
    order = np.argsort(means, kind='stable')
    return replace(dump, classes=[dump.classes[c] for c in order], held=dump.held[:, order])


def _shrink(row: dict) -> dict:
    """Keeps which edges are open, as bits, while the file is read: thousands of matrices of weights would not fit."""
    if 'adjacency' in row:
        row['adjacency'] = {stage: np.array(weights) > 0 for stage, weights in row['adjacency'].items()}
    return row


def _edges(row: dict) -> dict[str, int]:
    """Wired stage -> number of its nodes, the output included."""
    return {stage: len(matrix) for stage, matrix in row.get('adjacency', {}).items()}


def _pairs(nodes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(nodes) for j in range(i + 1, nodes)]


def _route(row: dict, n: int, blocks: Sequence[str], edges: dict[str, int], path: str) -> np.ndarray:
    if len(row['ran']) != len(blocks) or _edges(row) != edges:
        raise InputError(f'{path}: image {n} has {len(row["ran"])} decisions and the wired stages {_edges(row)}, but '
                         f'its header describes a model with {len(blocks)} and {edges}: dumps of two models in one file?')
    is_open = [row['adjacency'][stage][np.triu_indices(nodes, 1)] for stage, nodes in edges.items()]
    return np.concatenate([np.array(row['ran'], dtype=bool), *is_open])


def _classes(names: Sequence[str], images: Sequence[dict]) -> tuple[list[str], Optional[list[list[int]]]]:
    """Class names, indices where there are none, and the labels of each image."""
    if not all('labels' in row for row in images):
        return list(names), None
    labels = [row['labels'] for row in images]
    highest = max((label for own in labels for label in own), default=-1)
    return [*names, *map(str, range(len(names), highest + 1))], labels


def _held(labels: Optional[list[list[int]]], classes: int) -> Optional[np.ndarray]:
    if labels is None:
        return None
    held: np.ndarray = np.zeros((len(labels), classes), dtype=bool)
    for n, own in enumerate(labels):
        held[n, own] = True
    return held


def _mean_areas(images: Sequence[dict[str, Any]]) -> Optional[np.ndarray]:
    if not all('areas' in row for row in images):
        return None
    return np.array([np.mean(row['areas']) if row['areas'] else np.nan for row in images])
