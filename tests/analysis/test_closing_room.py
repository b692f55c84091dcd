"""What a budget adds to the loss, for two gates and two images, by hand."""
import numpy as np

from mmdyn.analysis.closing_room import added_loss, room

CHANGES = np.array([[1.0, 4.0], [3.0, 2.0]])  # (images, gates)
SHARES = np.full((2, 2), 0.25)


def test_the_lowest_close_first_and_the_last_in_part():
    assert added_loss(1, CHANGES, SHARES, CHANGES) == 0
    assert added_loss(0.875, CHANGES, SHARES, CHANGES) == 0.5  # one closing of the first image: 1 / 2 images
    assert added_loss(0.75, CHANGES, SHARES, CHANGES) == 1.5
    assert added_loss(0.6875, CHANGES, SHARES, CHANGES) == 1.5 + 0.75  # half of the third
    assert added_loss(0.5, CHANGES, SHARES, CHANGES) == CHANGES.sum() / 2


def test_what_is_told():
    logits = -CHANGES  # gates that are wrong throughout
    assert room(0.75, CHANGES, SHARES, logits) == (
        'if these changes add up, a budget of 0.75 raises the loss by 2.0000 by the same gates for all images, '
        "3.5000 by one threshold on what the gates say, 1.5000 by each image's own costs, known beforehand")
    assert 'gates say' not in room(0.75, CHANGES, SHARES, np.full((2, 2), np.nan))


def test_a_dear_gate_closes_for_what_it_saves():
    shares = np.array([[0.1, 0.4], [0.1, 0.4]])
    changes = np.array([[1.0, 2.0], [1.0, 2.0]])
    assert '1.0000 by the same gates' in room(0.8, changes, shares, changes)  # half of the images close the second


def test_a_budget_that_cannot_be_met():
    assert room(0.4, CHANGES, SHARES, CHANGES) == (
        'a budget of 0.4 cannot be met: with all gates closed this backbone still costs 0.500 of dense')
