"""How much deciding image by image could be worth, if the costs of closing single gates add up."""
from collections.abc import Sequence

import numpy as np


def added_loss(budget: float, changes: np.ndarray, shares: np.ndarray, ranking: np.ndarray) -> float:
    """By how much the mean loss rises where gates close in a given order until a budget is met.

    Args:
        budget: Mean cost, as a share of the dense cost; at least what is left when all gates close.
        changes: (N, G), by how much the loss of each image rises when one gate closes.
        shares: (N, G), what that saves of the dense cost of the image.
        ranking: (N, G); the lowest close first, over images and gates. Of equal ones the first gate does, and the last
            closing is made in part, so that the budget is met exactly.
    """
    images = len(changes)
    order = ranking.T.ravel().argsort(kind='stable')  # gate after gate
    saved = shares.T.ravel()[order] / images
    before = saved.cumsum() - saved
    parts = ((1 - budget - before) / saved).clip(0, 1)
    return float(parts @ changes.T.ravel()[order]) / images


def room(budget: float, changes: np.ndarray, shares: np.ndarray, logits: np.ndarray) -> str:
    """A sentence: what a fixed choice, these gates, and knowing each image's own costs would add to the loss.

    Args:
        budget, changes, shares: See :func:`added_loss`.
        logits: (N, G), what the gates say.
    """
    least = 1 - shares.sum() / len(shares)
    if budget < least:
        return f'a budget of {budget:g} cannot be met: with all gates closed this backbone still costs {least:.3f} of dense'
    per_cost = changes / shares
    fixed = np.broadcast_to(changes.mean(axis=0) / shares.mean(axis=0), changes.shape)
    ways: Sequence[tuple[str, np.ndarray]] = (
        ('the same gates for all images', fixed), ('one threshold on what the gates say', logits),
        ("each image's own costs, known beforehand", per_cost))
    told = [f'{added_loss(budget, changes, shares, ranking):.4f} by {way}' for way, ranking in ways
            if not np.isnan(ranking).any()]
    return f'if these changes add up, a budget of {budget:g} raises the loss by ' + ', '.join(told)
