"""What all dynamic backbones offer about their gates: rates, thresholds, calibration."""
from typing import Optional, Union

import torch
from torch import nn

from ..layers.gate import BaseGate, share_threshold
from ..layers.global_mean import global_mean


class BackboneGates(nn.Module):
    """Mixin for a dynamic backbone, whose gates decide about its blocks or nodes, if it has any.

    Attributes:
        closing: How far the target rates have come on their way from 1, in [0, 1] (:class:`mmdyn.GateScheduleHook`).
    """

    closing: float = 1.0

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._target_rates: dict[str, float] = {}

    def gates(self) -> dict[str, BaseGate]:
        """Block name -> gate, for the blocks that have one; of a group, that is its first."""
        raise NotImplementedError

    @property
    def decides(self) -> bool:
        """Whether decisions are open or closed, and not probabilities, at which everything runs."""
        return all(gate.policy != 'expected' for gate in self.gates().values())

    @property
    def followers(self) -> dict[str, str]:
        """Block name -> its leader, for the blocks about which the gate of another block decides."""
        return {}

    @property
    def target_rates(self) -> dict[str, float]:
        """Block name -> target rate, for the blocks that have one."""
        return {name: 1 - self.closing * (1 - rate) for name, rate in self._target_rates.items()}

    @property
    def needed_loss(self) -> Optional[str]:
        """The loss without which the decisions would not learn, if there is one."""
        if any(getattr(gate, 'estimator', None) == 'taught' for gate in self.gates().values()):
            return 'mmdyn.TaughtGateLoss'
        return 'mmdyn.TargetRateLoss' if self.target_rates else None

    @property
    def open_probability(self) -> Union[float, str, list]:
        """Of the gates; one value where all agree. Setting it moves every gate."""
        values = [gate.open_probability for gate in self.gates().values()]
        return values[0] if len(set(values)) == 1 else values

    @open_probability.setter
    def open_probability(self, value: Union[float, str]) -> None:
        for gate in self.gates().values():
            gate.open_probability = value

    def restart_calibration(self) -> None:
        """Lets the next calibrations take larger steps again, from where the quantiles are."""
        for gate in self.gates().values():
            gate.calibration_steps.clamp_(max=2)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Moves the running quantiles by the last forward's logits, over all ranks."""
        gates = {name: gate for name, gate in self.gates().items() if name in self.target_rates}
        if not gates or not self.decisions.gate_logits:
            return
        logits = torch.stack([self.decisions.gate_logits[name].detach() for name in gates])
        targets = [self.target_rates[name] for name in gates]
        if all(getattr(gate, 'estimator', None) == 'taught' for gate in gates.values()):
            share_threshold(list(gates.values()), logits, targets)
            return
        offsets = logits - torch.stack([gate.quantile for gate in gates.values()])[:, None]
        above, distance = global_mean(torch.cat([(offsets > 0).float(), offsets.abs()])).chunk(2)
        for gate, target, share, mean_distance in zip(gates.values(), targets, above, distance):
            gate.calibrate(share - target, mean_distance)
