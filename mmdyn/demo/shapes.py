"""Writes a small COCO-format detection set of drawn shapes: something to train on where COCO is not at hand.

Textured shapes of several classes and sizes lie over each other on textured backgrounds. Boxes, areas and masks are
those of the visible part. The same options always give the same files, bit for bit.
"""
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
SPLITS = ('train', 'val')
MARKER = 'made_by_make_shapes_dataset.json'
# With less of it in sight a shape's class can hardly be told: a shape that would hide so much is not drawn.
MIN_VISIBLE = 0.5
MIN_CONTRAST = 80
RADIUS_RANGE = (0.07, 0.24)  # of the image's side
LARGEST_TILT = np.pi / 8
PLACING_ATTEMPTS = 20
_ARM = 0.35
_CROSS = np.array([[_ARM, _ARM], [_ARM, 1], [-_ARM, 1], [-_ARM, _ARM], [-1, _ARM], [-1, -_ARM], [-_ARM, -_ARM],
                   [-_ARM, -1], [_ARM, -1], [_ARM, -_ARM], [1, -_ARM], [1, _ARM]])
_SUBPIXEL_BITS = 4


def outline(kind: str, radius: float, angle: float) -> np.ndarray:
    """Corners of a shape around the origin.

    Args:
        kind: One of ``CLASSES``.
        radius: Radius of the circle around the shape, in pixels.
        angle: Rotation in radians.

    Returns:
        (corners, 2) array of x and y.
    """
    if kind == 'cross':
        corners = _CROSS / np.hypot(_ARM, 1)
    else:
        count = dict(circle=48, square=4, triangle=3, star=10)[kind]
        first = np.pi / 4 if kind == 'square' else -np.pi / 2  # which is up
        directions = first + np.arange(count) * 2 * np.pi / count
        corners = np.stack([np.cos(directions), np.sin(directions)], axis=1)
        if kind == 'star':
            corners[1::2] *= 0.42
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return radius * corners @ rotation


def texture(rng: np.random.Generator, side: int, colour: np.ndarray) -> np.ndarray:
    """A (side, side, 3) float image around a colour: coarse and fine noise, and stripes on every second one."""
    pattern: np.ndarray = np.zeros((side, side), np.float32)
    for cells, strength in ((4, 14), (16, 10), (side, 6)):
        noise = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        pattern += strength * cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        direction, period = rng.uniform(0, np.pi), rng.uniform(4, 16)
        rows, columns = np.mgrid[:side, :side]
        distance = columns * np.cos(direction) + rows * np.sin(direction)
        pattern += 14 * np.sin(2 * np.pi * distance / period).astype(np.float32)
    return colour + pattern[:, :, None]


def draw_mask(corners: np.ndarray, side: int) -> np.ndarray:
    """The (side, side) boolean mask of a polygon."""
    mask: np.ndarray = np.zeros((side, side), np.uint8)
    fixed_point = np.round(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [fixed_point], 1, shift=_SUBPIXEL_BITS)
    return mask.astype(bool)


def contrasting_colour(rng: np.random.Generator, surroundings: np.ndarray) -> np.ndarray:
    """A random colour at least ``MIN_CONTRAST`` away from another one."""
    while True:
        colour = rng.uniform(30, 225, 3)
        if np.linalg.norm(colour - surroundings) >= MIN_CONTRAST:
            return colour


def draw_image(rng: np.random.Generator, side: int,
               max_objects: int) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draws one image.

    Args:
        rng: All that is random comes from here.
        side: Height and width in pixels.
        max_objects: One to this many shapes are drawn, fewer when there is no room.

    Returns:
        The (side, side, 3) uint8 image, and class name and visible (side, side) mask of each shape.
    """
    image = texture(rng, side, rng.uniform(30, 225, 3))
    kinds: list[str] = []
    whole_areas: list[int] = []
    visible: list[np.ndarray] = []
    for _ in range(rng.integers(1, max_objects + 1)):
        kind = str(rng.choice(CLASSES))
        for _ in range(PLACING_ATTEMPTS):
            # Sizes are spread evenly over octaves, as many small shapes as large ones.
            radius = side * np.exp(rng.uniform(*np.log(RADIUS_RANGE)))
            centre = rng.uniform(0.6 * radius, side - 0.6 * radius, 2)
            corners = outline(kind, radius, rng.uniform(-LARGEST_TILT, LARGEST_TILT))
            mask = draw_mask(centre + corners, side)
            whole_area = max(1, draw_mask(side + corners, 2 * side).sum())
            uncovered = [seen & ~mask for seen in visible]
            if mask.sum() >= MIN_VISIBLE * whole_area and all(
                    seen.sum() >= MIN_VISIBLE * area for seen, area in zip(uncovered, whole_areas)):
                surroundings = image[mask].mean(axis=0)
                paint = texture(rng, side, contrasting_colour(rng, surroundings))
                image[mask] = paint[mask]
                visible = [*uncovered, mask]
                kinds.append(kind)
                whole_areas.append(whole_area)
                break
    return image.clip(0, 255).astype(np.uint8), list(zip(kinds, visible))


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run-length encoding of a mask: exact also where a shape is cut in two."""
    pixels = mask.ravel(order='F')
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    # The first run is by definition one of background.
    return dict(size=list(mask.shape), counts=[0, *counts] if pixels[0] else counts)


def annotate(mask: np.ndarray, kind: str) -> dict[str, Any]:
    """The COCO annotation of what is visible of a shape, without its ids."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return dict(
        category_id=CLASSES.index(kind) + 1,
        bbox=[left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        area=int(mask.sum()),
        segmentation=run_lengths(mask),
        iscrowd=0)


def write_split(root: Path, split: str, count: int, side: int, max_objects: int, seed: int) -> None:
    """Writes the images and the annotation file of one split."""
    folder = root / f'{split}2017'
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        # A generator per image: image 7 stays the same picture whatever the number of images.
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        image, shapes = draw_image(rng, side, max_objects)
        image_id, name = index + 1, f'{index + 1:012d}.png'
        if not cv2.imwrite(str(folder / name), image):
            raise OSError(f'could not write the image {folder / name}')
        images.append(dict(id=image_id, file_name=name, height=side, width=side))
        for kind, mask in shapes:
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, **annotate(mask, kind)))
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, start=1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def make_dataset(root: Path, train: int, val: int, side: int, max_objects: int, seed: int) -> str:
    """Writes the whole set, in COCO 2017's layout.

    Args:
        root: Folder to write to: absent, empty, or one that this function has written before.
        train: Number of training images.
        val: Number of validation images.
        side: Height and width of the images in pixels, at least 64.
        max_objects: Most shapes on an image.
        seed: Decides every pixel and number.

    Returns:
        What was written.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: The folder holds something else, which is left alone.
    """
    limits = dict(train=(train, 1), val=(val, 1), size=(side, 64), max_objects=(max_objects, 1), seed=(seed, 0))
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).is_file():
            raise FileExistsError(f'{root} is not empty and was not written by this tool: name another folder')
        for folder in ('annotations', *(f'{split}2017' for split in SPLITS)):
            shutil.rmtree(root / folder, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    options = dict(train=train, val=val, size=side, max_objects=max_objects, seed=seed)
    (root / MARKER).write_text(json.dumps(options) + '\n')
    write_split(root, 'train', train, side, max_objects, seed)
    write_split(root, 'val', val, side, max_objects, seed)
    return f'{train} training and {val} validation images of {", ".join(CLASSES)} in {root}'
