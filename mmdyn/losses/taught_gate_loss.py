"""Teaches gates what closing costs, from what paired routes have measured."""
from typing import Optional, Protocol

import torch
from torch import Tensor, nn

from ..layers.decisions import Decisions
from ..layers.gate import check_number
from ..layers.global_mean import global_mean
from ..registry import MODELS

# Of the global batches that the typical damage is a mean of, about the last five: in a warm-up the damage of all grows
# tenfold within ten batches, and what is typical has to follow, or all gates do.
_MEMORY = 0.8


class Account(Protocol):
    """What the loss needs of :class:`mmdyn.cost.CostAccount`."""

    backbone: nn.Module

    def conditional_macs(self, input_size: tuple[int, int]) -> dict[str, int]: ...


@MODELS.register_module()
class TaughtGateLoss(nn.Module):
    """Poisson deviance between the damage that an image's closed blocks have done and what their gates expected.

    Paired routes (:class:`mmdyn.PairedRoutesHook`) measure for each image how far its closed blocks, together, have
    moved what the model makes of it. A gate's logit is read as the logarithm of the damage that closing its blocks does,
    in units of the typical damage of so many multiply-adds::

        expected = sum over closed gates of cost * exp(logit),   loss = mean(expected - damage * log(expected))

    Which blocks are closed is drawn anew in each iteration, so the sum tells them apart; the deviance is least where the
    expectation is the mean damage, however skewed its distribution. A gate opens above one threshold for all of them:
    where a multiply-add is worth most.

    Args:
        loss_weight: At least 0.
    """

    name = 'loss_taught_gates'
    needs_cost = True

    def __init__(self, *, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)
        # Sums over past global batches, older ones fading: damage, and the share of what can be left out that was.
        self._sums: Optional[Tensor] = None

    def forward(self, decisions: Decisions, account: Account) -> Optional[Tensor]:
        """Returns the scalar loss; None where no gate was asked, or nobody has measured.

        Raises:
            ValueError: If a gate that was asked is not a taught one.
            RuntimeError: If gates were asked and the damage has not been measured.
        """
        if not decisions.gates:
            return None
        self._require_taught(account.backbone)
        if decisions.damage is None:
            raise RuntimeError('TaughtGateLoss learns from how far paired routes lie apart, and nothing has been compared: '
                               "add dict(type='mmdyn.PairedRoutesHook') to custom_hooks, in form 'twice' and with distances "
                               '(it has both by default)')
        closed, expected = self._expectation(decisions, account)
        damage = decisions.damage.detach().to(expected) / self._unit(decisions.damage, closed)
        some_closed = closed > 0
        deviance = expected - damage * expected.clamp(min=torch.finfo(expected.dtype).tiny).log()
        return self.loss_weight * torch.where(some_closed, deviance, 0.0).mean()

    @staticmethod
    def _require_taught(backbone: nn.Module) -> None:
        """The logits of other gates are no logarithms of damage, and have no bound: their exponential would overflow."""
        for name, gate in backbone.gates().items():
            if not gate.is_taught:
                estimator = getattr(gate, 'estimator', None)
                raise ValueError(
                    f"TaughtGateLoss expects gate=dict(estimator='taught') in the backbone; the gate of {name} is a "
                    f'{type(gate).__name__}' + (f' with estimator={estimator!r}' if estimator else '') +
                    ', which learns from another loss: set that, or name another loss (mmdyn.TargetRateLoss for a Gate)')

    def _expectation(self, decisions: Decisions, account: Account) -> tuple[Tensor, Tensor]:
        """(N,) share of what can be left out that is closed, and (N,) what that is expected to do."""
        macs = account.conditional_macs(decisions.input_size)
        followers = account.backbone.followers
        parts = []
        for name, decision in decisions.gates.items():
            closed = (1 - decision.detach()) * (macs[name] / sum(macs.values()))
            logit = decisions.gate_logits[followers.get(name, name)]
            parts.append(torch.stack([closed, closed * logit.exp()]))
        closed, expected = torch.stack(parts).sum(dim=0)
        return closed, expected

    @torch.no_grad()
    def _unit(self, damage: Tensor, closed: Tensor) -> Tensor:
        """The typical damage of closing everything, over all ranks; of images with all gates open there is none."""
        means = global_mean(torch.stack([torch.where(closed > 0, damage.to(closed), 0.0), closed]))
        self._sums = means if self._sums is None else _MEMORY * self._sums.to(means) + means
        return (self._sums[0] / self._sums[1]).clamp(min=torch.finfo(means.dtype).tiny)

    def get_extra_state(self) -> Optional[Tensor]:
        """The running sums, so that a resumed training continues with them."""
        return None if self._sums is None else self._sums.cpu()

    def set_extra_state(self, state: Optional[Tensor]) -> None:
        self._sums = state
