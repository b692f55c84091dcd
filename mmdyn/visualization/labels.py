"""Where the labels of boxes go, so that all can be read."""
from collections.abc import Iterator

import numpy as np


def place_labels(boxes: np.ndarray, sizes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Finds a place for the label of each box that covers no other label, inside the image.

    One by one, each takes the first free place: above its box or below it, inside at the top or at the bottom, each
    flush left or flush right, and then farther and farther above and below. Where nothing is free it takes the place
    where it covers least.

    Args:
        boxes: (K, 4) corners x1, y1, x2, y2 in pixels; the most important first.
        sizes: (K, 2) widths and heights of the labels in pixels.
        shape: (H, W) of the image.

    Returns:
        (K, 2) upper left corners x, y.
    """
    placed: np.ndarray = np.zeros((0, 4))
    for box, size in zip(boxes, sizes):
        room = np.maximum(np.array(shape[::-1]) - size, 0)
        corners = np.clip(list(_candidates(box, size, shape[0])), 0, room)
        labels = np.concatenate([corners, corners + size], axis=1)
        placed = np.concatenate([placed, labels[[_overlap(labels, placed).argmin()]]])
    return placed[:, :2]


def _candidates(box: np.ndarray, size: np.ndarray, height: int) -> Iterator[tuple[float, float]]:
    """Upper left corners, the best first."""
    (x1, y1, x2, y2), (width, step) = box, size
    rows = [y1 - step, y2, y1, y2 - step]
    for distance in range(1, int(height / step) + 1):
        rows += [y1 - step - distance * step, y2 + distance * step]
    for y in rows:
        yield x1, y
        yield x2 - width, y


def _overlap(labels: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """(M,) areas that M rectangles share with those that are placed already."""
    low = np.maximum(labels[:, None, :2], placed[None, :, :2])
    high = np.minimum(labels[:, None, 2:], placed[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2).sum(axis=1)
