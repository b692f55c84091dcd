"""What all dynamic backbones offer about their gates: rates, thresholds, calibration."""
from typing import Iterator, Optional, Union

import torch
from torch import Tensor, nn

from ..functional.gumbel import logistic_noise
from ..functional.host_numbers import dot
from ..layers.calibration import RunningQuantile, follow_quantiles
from ..layers.gate import BaseGate
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

    def blocks(self) -> Iterator[tuple[str, nn.Module]]:
        """Name (``layer1.0``) and module of every block of the dynamic stages, in the order they run."""
        raise NotImplementedError

    def gates(self) -> dict[str, BaseGate]:
        """Block name -> gate, for the blocks that have one; of a group, that is its first."""
        return {name: block.gate for name, block in self.blocks() if hasattr(block, 'gate')}

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
        if any(gate.is_taught for gate in self.gates().values()):
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
    def calibration_rows(self) -> Optional[Tensor]:
        """(2 K, N): whether the logits of each image of the last forward lie above K quantiles, and how far from them.

        Their means are what :meth:`calibrate` takes. None where no gate follows a quantile.
        """
        gates = self._calibrated()
        if not gates:
            return None
        logits = [self.decisions.gate_logits[name] for name in gates]
        logits += [own + gate.noise * logistic_noise(own) for own, gate in zip(logits, gates.values())
                   if gate.is_taught and gate.training]
        offsets = torch.stack([own - running.quantile for own, running in zip(logits, _quantiles(gates))])
        # One logit that is no number must not be the end of the quantile.
        return torch.cat([(offsets > 0).to(offsets.dtype), offsets.abs().nan_to_num(0.0, 0.0, 0.0)])

    @torch.no_grad()
    def calibrate(self, means: Optional[Tensor] = None) -> None:
        """Moves the running quantiles by the last forward's logits, over all ranks.

        Taught gates share one, above which the mean of their target rates of their cost runs.

        Args:
            means: (2 K,) of :meth:`calibration_rows` over the global batch; None to have them found.
        """
        gates = self._calibrated()
        if not gates:
            return
        quantiles = _quantiles(gates)
        sharing = [[own] for own in quantiles]
        above, distance = (global_mean(self.calibration_rows()) if means is None else means).chunk(2)
        targets = [self.target_rates[name] for name in gates]
        if all(gate.is_taught for gate in gates.values()):
            costs = [gate.cost for gate in gates.values()]
            shares = [cost / sum(costs) for cost in costs]
            sharing = [quantiles[n:n + len(gates)] for n in range(0, len(quantiles), len(gates))]
            targets = [sum(share * target for share, target in zip(shares, targets))] * len(sharing)
            above = torch.stack([dot(part, shares) for part in above.split(len(gates))])
            distance = torch.stack([part.mean() for part in distance.split(len(gates))])
        follow_quantiles(sharing, targets, above, distance)

    def sampling_state(self) -> dict[str, dict[str, Tensor]]:
        """Gate -> what training decides by, of taught gates; a resumed training continues with it."""
        return {name: {key: value.cpu() for key, value in gate.sampling.named_buffers()}
                for name, gate in self._taught().items()}

    @torch.no_grad()
    def load_sampling_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Takes what :meth:`sampling_state` gave; of gates that are not taught here, nothing."""
        for name, gate in self._taught().items():
            for key, value in state.get(name, {}).items():
                getattr(gate.sampling, key).copy_(value)

    def _taught(self) -> dict[str, BaseGate]:
        return {name: gate for name, gate in self.gates().items() if gate.is_taught}

    def _calibrated(self) -> dict[str, BaseGate]:
        """The gates that decide by a quantile, if they were asked."""
        if self.decisions is None or not self.decisions.gate_logits:
            return {}
        return {name: gate for name, gate in self.gates().items() if gate.has_quantile and name in self._target_rates}


def _quantiles(gates: dict[str, BaseGate]) -> list[RunningQuantile]:
    """By which these gates decide: their own, then, of taught gates that train, those of training."""
    return [*gates.values(), *(gate.sampling for gate in gates.values() if gate.is_taught and gate.training)]
