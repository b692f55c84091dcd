"""The drawn dataset: the same every time, in COCO's format, and annotated as drawn."""
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmdyn.demo.shapes import CLASSES, draw_image, make_dataset, run_lengths

SMALL = dict(train=60, val=4, side=96, max_objects=5, seed=3)


@pytest.fixture(scope='module')
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:

    def make(**changes: int) -> Path:
        root = tmp_path_factory.mktemp('shapes')
        make_dataset(root, **(SMALL | changes))
        return root

    return make


@pytest.fixture(scope='module')
def root(make: Callable[..., Path]) -> Path:
    return make()


@pytest.fixture(scope='module')
def coco(root: Path) -> COCO:
    return COCO(str(root / 'annotations' / 'instances_train2017.json'))


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob('*') if file.is_file()}


def test_same_options_same_files(root: Path, make: Callable[..., Path]) -> None:
    first = contents(root)
    assert contents(make()) == first
    make_dataset(root, **SMALL)
    assert contents(root) == first


def test_another_seed_another_set(root: Path, make: Callable[..., Path]) -> None:
    first, other = contents(root), contents(make(seed=4))
    assert not [name for name in first if name.endswith('.png') and first[name] == other[name]]


def test_an_image_does_not_depend_on_how_many_there_are(root: Path, make: Callable[..., Path]) -> None:
    name = 'train2017/000000000002.png'
    assert contents(make(train=2))[name] == contents(root)[name]


def test_a_smaller_set_leaves_nothing_of_the_larger(root: Path, make: Callable[..., Path]) -> None:
    rewritten = make()
    make_dataset(rewritten, **(SMALL | dict(train=2)))
    assert len(list((rewritten / 'train2017').iterdir())) == 2


def test_layout_is_coco_2017(root: Path) -> None:
    for split, count in (('train', 60), ('val', 4)):
        listed = json.loads((root / 'annotations' / f'instances_{split}2017.json').read_text())['images']
        files = sorted(file.name for file in (root / f'{split}2017').iterdir())
        assert [image['file_name'] for image in listed] == files and len(files) == count
        assert cv2.imread(str(root / f'{split}2017' / files[0])).shape == (96, 96, 3)


def test_boxes_and_areas_are_those_of_the_visible_masks(coco: COCO) -> None:
    annotations = coco.loadAnns(coco.getAnnIds())
    assert annotations
    for annotation in annotations:
        mask = coco.annToMask(annotation)
        rows, columns = mask.nonzero()
        left, top, width, height = annotation['bbox']
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        assert annotation['area'] == mask.sum() > 0


def test_masks_of_an_image_do_not_overlap(coco: COCO) -> None:
    for image_id in coco.getImgIds():
        masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]
        assert 1 <= len(masks) <= SMALL['max_objects']
        assert np.sum(masks, axis=0).max() == 1


def test_some_shapes_are_hidden_in_part_and_none_much() -> None:
    hidden_shares = []
    for index in range(20):
        rng = np.random.default_rng(index)
        _, shapes = draw_image(rng, 96, 8)
        for kind, mask in shapes:
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            hull = cv2.convexHull(np.concatenate(contours))
            if kind in ('circle', 'square', 'triangle'):
                hidden_shares.append(1 - mask.sum() / max(cv2.contourArea(hull), mask.sum()))
    assert max(hidden_shares) > 0.1 and max(hidden_shares) <= 0.5


def test_masks_are_where_the_colours_change(root: Path, coco: COCO) -> None:
    for image in coco.loadImgs(coco.getImgIds())[:20]:
        pixels = cv2.imread(str(root / 'train2017' / image['file_name'])).astype(float)
        masks = [coco.annToMask(annotation).astype(bool) for annotation in coco.imgToAnns[image['id']]]
        background = ~np.any(masks, axis=0)
        spread = np.linalg.norm(pixels[background] - pixels[background].mean(axis=0), axis=1).mean()
        for mask in masks:
            assert np.linalg.norm(pixels[mask].mean(axis=0) - pixels[background].mean(axis=0)) > spread


def test_classes_are_balanced(coco: COCO) -> None:
    counts = Counter(annotation['category_id'] for annotation in coco.loadAnns(coco.getAnnIds()))
    mean = sum(counts.values()) / len(CLASSES)
    assert len(counts) == len(CLASSES)
    assert all(0.6 * mean < count < 1.4 * mean for count in counts.values()), counts


def test_sizes_differ(coco: COCO) -> None:
    sides = [max(annotation['bbox'][2:]) for annotation in coco.loadAnns(coco.getAnnIds())]
    assert min(sides) < 0.2 * SMALL['side'] and max(sides) > 0.4 * SMALL['side']


@pytest.mark.parametrize('pixels, counts', [([[0, 1], [0, 1]], [2, 2]), ([[1, 0], [1, 1]], [0, 2, 1, 1]),
                                            ([[1, 1], [1, 1]], [0, 4])])
def test_run_lengths_count_down_the_columns(pixels: list[list[int]], counts: list[int]) -> None:
    assert run_lengths(np.array(pixels, bool)) == dict(size=[2, 2], counts=counts)


@pytest.mark.parametrize('change', [dict(train=0), dict(val=-1), dict(side=10), dict(max_objects=0), dict(seed=-1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    value, = change.values()
    with pytest.raises(ValueError, match=f'must be at least .*, got {value}'):
        make_dataset(tmp_path, **(SMALL | change))
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_data_is_left_alone(tmp_path: Path, checkout: Path) -> None:
    precious = tmp_path / 'annotations' / 'instances_train2017.json'
    precious.parent.mkdir()
    precious.write_text('real')
    command = [sys.executable, str(checkout / 'tools' / 'misc' / 'make_shapes_dataset.py'), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode != 0 and 'was not written by this tool' in process.stderr
    assert precious.read_text() == 'real'
