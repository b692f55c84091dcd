"""The loss that holds each gate near its target rate (ConvNet-AIG, section 3.4)."""
from collections import deque
from typing import Optional

import torch
from torch import Tensor, nn

from ..functional.gumbel import straight_through
from ..functional.host_numbers import minus
from ..layers.decisions import Decisions
from ..layers.gate import check_number
from ..registry import MODELS


@MODELS.register_module()
class TargetRateLoss(nn.Module):
    """``loss_weight * mean over gated blocks of (open rate - target rate)^2``.

    The open rate is that of the global batch: all images of all ranks. With one or two images a
    GPU the square of a rank's own noisy rate would push gates to 0 or 1.

    Args:
        loss_weight: At least 0. The paper: 2 for CIFAR-10; its code: 1 for ImageNet.
        window: Global batches over which the rate is averaged. Above 1, the rate is less noisy;
            the gradient of the decisions stays that of the current batch.
    """

    name = 'loss_target_rate'

    def __init__(self, *, loss_weight: float = 1.0, window: int = 1) -> None:
        super().__init__()
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ValueError(f'window must be an int of at least 1, got {window!r}')
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)
        self.window = window
        self._past: deque[Tensor] = deque(maxlen=window - 1)

    def forward(self, decisions: Decisions) -> Optional[Tensor]:
        """Returns the scalar loss, the same on every rank; None where no block has a target."""
        targets = decisions.target_rates
        if not targets or not decisions.gates:
            return None
        rates = decisions.open_rates
        if list(targets) != list(decisions.gates):
            by_name = dict(zip(decisions.gates, rates.unbind()))
            rates = torch.stack([by_name[name] for name in targets])
        return self.loss_weight * minus(self._smooth(rates), list(targets.values())).square().mean()

    def _smooth(self, rates: Tensor) -> Tensor:
        if self.window == 1:
            return rates
        current = rates.detach()
        past = [past for past in self._past if past.shape == current.shape]
        mean = torch.stack([*(p.to(current) for p in past), current]).mean(dim=0)
        self._past.append(current)
        return straight_through(mean, rates)

    def get_extra_state(self) -> list[Tensor]:
        """The window, so that a resumed training continues with it."""
        return [past.cpu() for past in self._past]

    def set_extra_state(self, state: list[Tensor]) -> None:
        self._past = deque(state, maxlen=self.window - 1)
