"""Training that skips: what is closed is left out, but for drawn images from which its gate learns.

With frozen norms an image that closes a branch gives the branch's weights no gradient, so that theirs is exact without
it. The gradient of its decision needs the branch: the images drawn stand for the rest.
"""
from typing import Iterable

import torch
from torch import Tensor

from ..functional.gumbel import straight_through


def explore(decision: Tensor, exploration: float) -> tuple[Tensor, list[bool]]:
    """Draws which closed images run all the same; given the decisions, their gradient is unbiased.

    Args:
        decision: (N,), 0 or 1.
        exploration: The probability with which a closed image is drawn. Where the decision learns nothing, none is.

    Returns:
        The decision, whose gradient counts 1 / exploration times where it is closed, and for each image whether it runs.
        That of an image that does not run has to be 0.
    """
    runs = is_open = decision.detach() > 0
    if decision.requires_grad:
        runs = is_open | (torch.rand_like(decision) < exploration)
        decision = straight_through(decision, torch.where(is_open, decision, decision / exploration))
    return decision, runs.tolist()


def with_zero_gradients(x: Tensor, unused: Iterable[Tensor]) -> Tensor:
    """The same, but what was not used has gradients of zero and not none, as data-parallel training expects."""
    nothing = [tensor.flatten()[:0].sum() for tensor in unused if tensor.requires_grad]
    return x + sum(nothing).to(x.dtype) if nothing else x
