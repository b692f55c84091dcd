"""The Runner's side of a dynamic model: losses, logs, warnings."""
import math
from collections import OrderedDict
from typing import Any, Optional, Sequence

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ..layers.gate_spread import GateSpread, constant_gates, say_constant
from ..layers.global_mean import global_mean
from ..registry import HOOKS
from .attach import Attachment, attach

_STATE_KEY = 'mmdyn'


@HOOKS.register_module()
class DynamicModelHook(Hook):
    """Adds losses on the backbone's decisions to any model, and reports what is decided.

    - The loss dict gains the losses and the open rate of the global batch.
    - Every ``interval`` iterations the open rate of each block, and how far the open probability
      of its gate spreads over the images of a batch, go to the log and to the visualizer's back
      ends (``open_rate/<block>``, ``open_probability_std/<block>``).
    - A gate that has been stuck open or shut, against its target, or that says about the same of
      every image, is named in a warning.
    - A loss that is not finite stops the training; the last checkpoint stays as it is.
    - The losses' moving windows are kept in the checkpoint.

    Args:
        losses: Configs of the losses, such as ``dict(type='mmdyn.TargetRateLoss')``.
        interval: Iterations between two reports of the blocks' open rates.
        stuck_after: Iterations after which a gate that never changed counts as stuck, and one whose
            open probability did not spread as constant.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook, which averages what this one updates

    def __init__(self,
                 *,
                 losses: Sequence[dict] = (),
                 interval: int = 50,
                 stuck_after: int = 500) -> None:
        for name, value in dict(interval=interval, stuck_after=stuck_after).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be an int of at least 1, got {value!r}')
        self.losses = losses
        self.interval = interval
        self.stuck_after = stuck_after
        self.attachment: Optional[Attachment] = None
        self._open_rates, self._spreads = _Running(), GateSpread()
        self._since_change, self._spreads_since = _Running(), GateSpread()
        self._constant: list[str] = []

    def before_run(self, runner) -> None:
        """Attaches the losses to the unwrapped model."""
        if self.attachment is None:
            self.attachment = attach(runner.model, self.losses)

    def after_run(self, runner) -> None:
        if self.attachment is not None:
            self.attachment.remove()
            self.attachment = None

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        _check_finite(runner, outputs or {})
        self.attachment.update()  # the optimiser has moved what the checkpoint is to hold
        for backbone in self.attachment.backbones.values():
            if backbone.decisions is None:
                continue
            backbone.decisions = backbone.decisions.detach()
            if backbone.decisions.gates:
                for rates in (self._open_rates, self._since_change):
                    rates.add(backbone.decisions.gates)
                for spreads in (self._spreads, self._spreads_since):
                    spreads.add(backbone.decisions.gate_logits)
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)
        if self.every_n_train_iters(runner, self.stuck_after):
            self._warn_about_stuck_gates(runner)
            self._warn_about_constant_gates(runner)

    def _report(self, runner) -> None:
        rates, spreads = self._open_rates.take(), self._spreads.take(all_ranks=True)
        if not rates:
            return
        listing = '  '.join(f'{name} {rate:.2f}' + (f' ({spreads[name]:.4f})' if name in spreads else '')
                            for name, rate in rates.items())
        meaning = ' (in brackets: spread of the open probability over images)' if spreads else ''
        runner.logger.info(f'open rates{meaning}: {listing}')
        scalars = {f'open_rate/{name}': rate for name, rate in rates.items()}
        scalars.update((f'open_probability_std/{name}', spread) for name, spread in spreads.items())
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)

    def _warn_about_stuck_gates(self, runner) -> None:
        rates = self._since_change.take()
        for backbone in self.attachment.backbones.values():
            for name, target in backbone.target_rates.items():
                rate = rates.get(name)
                if rate in (0.0, 1.0) and not math.isclose(rate, target, abs_tol=0.02):
                    runner.logger.warning(
                        f'The gate of {name} has been {"open" if rate else "shut"} for every image '
                        f'of the last {self.stuck_after} iterations; its target rate is {target}. '
                        'A larger loss_weight, or a lower learning rate, may free it.')

    def _warn_about_constant_gates(self, runner) -> None:
        constant = constant_gates(self._spreads_since.take(all_ranks=True))
        if constant and constant != self._constant:  # said again when there are others
            runner.logger.warning(f'{say_constant(constant)} That was so over the last {self.stuck_after} iterations.')
        self._constant = constant

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keeps the losses' state in the checkpoint."""
        if self.attachment is not None:
            checkpoint[_STATE_KEY] = dict(losses=self.attachment.losses.state_dict())

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores the losses' state when training is resumed."""
        if runner._resume and self.attachment is not None and _STATE_KEY in checkpoint:
            self.attachment.losses.load_state_dict(checkpoint[_STATE_KEY]['losses'])


class _Running:
    """Running mean of the gates over iterations, on the device: no synchronisation to add."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sum: Optional[Tensor] = None
        self._count = 0

    def add(self, gates: 'OrderedDict[str, Tensor]') -> None:
        batch = torch.stack([gate.mean() for gate in gates.values()])
        self._names = list(gates)
        self._sum = batch if self._sum is None else self._sum + batch
        self._count += 1

    def take(self) -> dict[str, float]:
        """Mean over all ranks since the last call; starts anew."""
        if self._sum is None:
            return {}
        means = global_mean((self._sum / self._count)[:, None])
        self._sum, self._count = None, 0
        return dict(zip(self._names, means.tolist()))


def _check_finite(runner, outputs: dict) -> None:
    losses = {name: float(torch.as_tensor(value).detach())
              for name, value in outputs.items() if 'loss' in name}
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        listing = ', '.join(f'{name} is {value}' for name, value in bad.items())
        raise FloatingPointError(
            f'Training stopped at iteration {runner.iter + 1}: {listing}. The checkpoints written '
            f'so far in {runner.work_dir} are untouched; resume from the last one with a lower '
            'learning rate, gradient clipping or another seed.')
