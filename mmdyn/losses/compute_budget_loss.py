"""The loss that holds the compute of a whole backbone near a budget."""
import warnings
from typing import Optional, Protocol

import torch
from torch import Tensor, nn

from ..layers.global_mean import global_mean
from ..layers.decisions import Decisions
from ..layers.gate import check_number
from ..registry import MODELS


class Account(Protocol):
    """What the loss needs of :class:`mmdyn.cost.CostAccount`."""

    def dense_macs(self, input_size: tuple[int, int]) -> int: ...

    def conditional_macs(self, input_size: tuple[int, int]) -> dict[str, int]: ...

    def batch_gmacs(self, decisions: Decisions) -> tuple[Tensor, Tensor]: ...


@MODELS.register_module()
class ComputeBudgetLoss(nn.Module):
    """``loss_weight * (mean dynamic cost / mean dense cost - target)^2``.

    The means are those of the global batch, all images of all ranks; an image counts at the padded
    size of its batch. Only the sum is held: which blocks or nodes run, and for which images, is
    left to the other losses. For gates, the gradient goes straight through the decision, times the
    cost of the block; for wired stages, to the edges that keep a node alive or could wake it
    (:func:`mmdyn.cost.blocks_run`).

    While training, gates are sampled. What deterministic evaluation costs follows if their noise
    is annealed (:class:`mmdyn.hooks.GateScheduleHook`).

    Args:
        target: Share of the dense cost, in (0, 1].
        loss_weight: At least 0.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    name = 'loss_compute_budget'
    needs_cost = True

    def __init__(self, *, target: float, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.target = check_number('target', target, 0.0, 1.0, above=True)
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)
        self._warned = False

    def forward(self, decisions: Decisions, account: Account) -> Optional[Tensor]:
        """Returns the scalar loss, the same on every rank; None where nothing can be left out."""
        conditional = account.conditional_macs(decisions.input_size)
        if not conditional or not (decisions.gates or decisions.adjacency):
            return None
        dense_macs = account.dense_macs(decisions.input_size)
        costs = torch.stack(account.batch_gmacs(decisions))
        self._warn_if_out_of_reach(1 - sum(conditional.values()) / dense_macs, costs.requires_grad)
        dynamic, dense = global_mean(costs)
        return self.loss_weight * (dynamic / dense - self.target).square()

    def _warn_if_out_of_reach(self, lowest: float, learns: bool) -> None:
        if self._warned or not torch.is_grad_enabled() or (learns and self.target >= lowest):
            return
        self._warned = True
        why = (f'{lowest:.3f} of the dense cost is that of what always runs' if learns else
               'no decision has a gradient (frozen gates, or confidence gates)')
        warnings.warn(f'ComputeBudgetLoss has target {self.target}, but {why}; the target cannot be reached',
                      stacklevel=2)
