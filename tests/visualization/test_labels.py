"""Labels of boxes: inside the image, on no other label while there is room, at their box where they can be."""
import numpy as np
import pytest

from mmdyn.visualization.labels import place_labels

SIZE = np.array([[30., 10.]])


@pytest.mark.parametrize('box, corner', [
    ([20, 40, 60, 80], [20, 30]),  # above, flush left
    ([80, 40, 100, 80], [70, 30]),  # moved in from the border on the right
    ([20, 3, 60, 80], [20, 0]),  # no room above: moved down
])
def test_one_label_is_above_its_box(box, corner):
    assert place_labels(np.array([box]), SIZE, (100, 100)).tolist() == [corner]


def test_labels_of_one_box_go_around_it():
    boxes, sizes = np.array([[20., 40., 60., 80.]] * 10), np.repeat(SIZE, 10, axis=0)
    found = place_labels(boxes, sizes, (100, 100)).tolist()
    # Above, below, inside at the top and at the bottom, farther above and below.
    assert found[:6] == [[20, 30], [20, 80], [20, 40], [20, 70], [20, 20], [20, 90]]


@pytest.mark.parametrize('seed', range(5))
def test_while_there_is_room_no_label_covers_another(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 300, (25, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 100, (25, 2))], axis=1)
    sizes = generator.uniform([20, 8], [60, 12], (25, 2))
    found = place_labels(boxes, sizes, (400, 400))
    assert (found >= 0).all() and (found + sizes <= 400 + 1e-9).all()
    for n in range(25):
        for m in range(n):
            apart = (found[n] >= found[m] + sizes[m] - 1e-9) | (found[m] >= found[n] + sizes[n] - 1e-9)
            assert apart.any(), (n, m)


def test_a_label_wider_than_the_image_and_no_label_at_all():
    assert place_labels(np.array([[0, 0, 5, 5]]), SIZE, (8, 8)).tolist() == [[0, 0]]
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2)), (8, 8)).shape == (0, 2)
