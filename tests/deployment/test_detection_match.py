"""Which differences between two lists of detections are due to rounding."""
import pytest
import torch
from mmdyn.deployment.detection_match import match

CONFIG = dict(score_thr=0.05, max_per_img=4, nms=dict(type='nms', iou_threshold=0.5))


def detections(*rows):
    """Of (score, label, left, top, right, bottom) each."""
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return dict(boxes=values[:, 2:], scores=values[:, 0], labels=values[:, 1].long())


GOOD = (0.9, 1, 10, 10, 30, 30)
OTHER = (0.6, 0, 50, 50, 60, 60)


@pytest.mark.parametrize('ours, theirs', [
    ([GOOD, OTHER], [GOOD, OTHER]),
    ([GOOD, OTHER], [OTHER, GOOD]),
    ([], []),
    ([(0.9005, 1, 10, 10, 30, 30.09)], [GOOD]),
    ([GOOD, (0.0504, 0, 0, 0, 9, 9)], [GOOD]),  # at the least score
    ([GOOD, OTHER, (0.5, 0, 0, 0, 9, 9), (0.3, 2, 0, 0, 9, 9)],
     [GOOD, OTHER, (0.5, 0, 0, 0, 9, 9), (0.3002, 2, 70, 70, 79, 79)]),  # at the end of the list
    ([GOOD, (0.8, 1, 10, 10, 30, 20)], [GOOD]),  # overlaps by 0.5
], ids=['same', 'order', 'none', 'rounded', 'least-score', 'last', 'overlap'])
def test_same(ours, theirs):
    match(detections(*ours), detections(*theirs), CONFIG)
    match(detections(*theirs), detections(*ours), CONFIG)


@pytest.mark.parametrize('ours, theirs', [
    ([GOOD], []),
    ([GOOD], [(0.9, 2, 10, 10, 30, 30)]),
    ([GOOD], [(0.9, 1, 10, 10, 30, 30.2)]),
    ([GOOD], [(0.902, 1, 10, 10, 30, 30)]),
    ([GOOD, OTHER, (0.5, 0, 0, 0, 9, 9)], [GOOD, OTHER]),  # the list is not full
    ([GOOD, (0.8, 1, 10, 10, 30, 19)], [GOOD]),
    ([GOOD, (0.8, 0, 10, 10, 30, 20)], [GOOD]),  # of another class
], ids=['missing', 'label', 'box', 'score', 'not-the-last', 'no-overlap', 'overlap-of-classes'])
def test_different(ours, theirs):
    for some, others in ((ours, theirs), (theirs, ours)):
        with pytest.raises(RuntimeError, match='expected the same detections, but one of the two alone has class'):
            match(detections(*some), detections(*others), CONFIG)


def test_suppression_between_classes():
    config = dict(CONFIG, nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True))
    match(detections(GOOD, (0.8, 0, 10, 10, 30, 20)), detections(GOOD), config)
