"""The Runner's side of a dynamic model: losses, logs, warnings."""
import math
from typing import Any, Optional, Sequence

import torch
from mmengine.hooks import CheckpointHook, Hook
from torch import Tensor

from ..backbones.dynamic_backbone import DynamicBackbone
from ..layers.gate_spread import GateSpread, constant_gates, say_constant
from ..layers.global_mean import global_mean
from ..registry import HOOKS
from .attach import Attachment, attach
from .finite_losses import FiniteLosses

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
    - A loss that is not finite stops the training, on all ranks together and before anything of it is saved. It is
      looked for every ``interval`` iterations, before validation and before checkpoints; on one CPU process always.
    - The losses' moving windows, and by what taught gates are drawn, are kept in the checkpoint.

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
        self._finite = FiniteLosses()

    def before_run(self, runner) -> None:
        """Attaches the losses to the unwrapped model."""
        if self.attachment is None:
            self.attachment = attach(runner.model, self.losses)

    def before_train(self, runner) -> None:
        """Says what decisions in frozen stages cost, which the static network does not pay; which have no budget; and
        which no loss."""
        for backbone in self.attachment.backbones.values():
            if backbone.needed_loss == 'mmdyn.TaughtGateLoss' and backbone.open_probability != 'calibrated':
                runner.logger.warning(
                    "gate=dict(estimator='taught'): at evaluation these gates meet their target rates with "
                    f"open_probability='calibrated', the config has {backbone.open_probability!r}.")
            if backbone.needed_loss and not self.losses:
                runner.logger.warning(
                    'DynamicModelHook has no losses, so that gates do not learn what their target rates ask for: expected '
                    f"losses=[dict(type='{backbone.needed_loss}')].")
            if names := backbone.frozen_blocks_that_decide():
                runner.logger.info(
                    f'{", ".join(names)}: frozen, but what decides there learns, so that their maps are kept for the '
                    'backward pass, as those of the static network would not be (configs/README.md, "On a GPU").')

    def after_run(self, runner) -> None:
        if self.attachment is not None:
            self.attachment.remove()
            self.attachment = None

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        self._finite.add(runner.iter + 1, outputs or {})
        if self._finite.are_at_hand or self.every_n_train_iters(runner, self.interval) or _is_saved_now(runner):
            self._finite.check(runner.work_dir)
        self.attachment.update()  # the optimiser has moved what the checkpoint is to hold
        gates: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        for suffix, backbone in self._backbones():
            if backbone.decisions is None:
                continue
            backbone.decisions = backbone.decisions.detach()
            gates.update((name + suffix, decision) for name, decision in backbone.decisions.gates.items())
            logits.update((name + suffix, logit) for name, logit in backbone.decisions.gate_logits.items())
        if gates:
            means = torch.stack(list(gates.values())).mean(dim=1)
            for rates in (self._open_rates, self._since_change):
                rates.add(list(gates), means)
            for spreads in (self._spreads, self._spreads_since):
                spreads.add(logits)
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)
        if self.every_n_train_iters(runner, self.stuck_after):
            self._warn_about_stuck_gates(runner)
            self._warn_about_constant_gates(runner)

    def after_train_epoch(self, runner) -> None:
        self._finite.check(runner.work_dir)

    def before_val_epoch(self, runner) -> None:
        self._finite.check(runner.work_dir)

    def _backbones(self) -> list[tuple[str, DynamicBackbone]]:
        """Each with what is added to the names of its blocks, as the losses have it: nothing to those of the first."""
        return [(f'_{i}' if i else '', backbone) for i, backbone in enumerate(self.attachment.backbones.values())]

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
        for suffix, backbone in self._backbones():
            for name, target in backbone.target_rates.items():
                rate = rates.get(name + suffix)
                if rate in (0.0, 1.0) and not math.isclose(rate, target, abs_tol=0.02):
                    advice = ('Taught gates meet their rates together, so that this may be as it should; but it decides '
                              'nothing.' if backbone.gates()[name].is_taught else
                              'A larger loss_weight, or a lower learning rate, may free it.')
                    runner.logger.warning(
                        f'The gate of {name + suffix} has been {"open" if rate else "shut"} for every image '
                        f'of the last {self.stuck_after} iterations; its target rate is {target}. {advice}')

    def _warn_about_constant_gates(self, runner) -> None:
        constant = constant_gates(self._spreads_since.take(all_ranks=True))
        if constant and constant != self._constant:  # said again when there are others
            runner.logger.warning(f'{say_constant(constant)} That was so over the last {self.stuck_after} iterations.')
        self._constant = constant

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keeps in the checkpoint what no evaluation needs: the losses' state, and what taught gates are drawn by."""
        if self.attachment is not None:
            backbones = self.attachment.backbones
            checkpoint[_STATE_KEY] = dict(losses=self.attachment.losses.state_dict(), names=self._loss_names(),
                                          sampling={name: own.sampling_state() for name, own in backbones.items()})

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores both when training is resumed."""
        if not runner._resume or self.attachment is None or _STATE_KEY not in checkpoint:
            return
        saved, own = checkpoint[_STATE_KEY], self._loss_names()
        for name, state in saved.get('sampling', {}).items():
            if name in self.attachment.backbones:
                self.attachment.backbones[name].load_sampling_state(state)
        if saved.get('names', own) != own:
            runner.logger.warning(f'The checkpoint was trained with the losses {saved["names"]} on decisions, the config '
                                  f'has {own}: their moving windows begin anew.')
            return
        self.attachment.losses.load_state_dict(saved['losses'])

    def _loss_names(self) -> list[str]:
        return [type(loss).__name__ for loss in self.attachment.losses]


class _Running:
    """Running mean of the gates over iterations, on the device: no synchronisation to add."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sum: Optional[Tensor] = None
        self._count = 0

    def add(self, names: list[str], rates: Tensor) -> None:
        self._names = names
        self._sum = rates if self._sum is None else self._sum + rates
        self._count += 1

    def take(self) -> dict[str, float]:
        """Mean over all ranks since the last call; starts anew."""
        if self._sum is None:
            return {}
        means = global_mean((self._sum / self._count)[:, None])
        self._sum, self._count = None, 0
        return dict(zip(self._names, means.tolist()))


def _is_saved_now(runner) -> bool:
    """Whether a checkpoint may follow this iteration; those of ends of epochs follow the epoch."""
    return runner.iter + 1 == runner.max_iters or any(
        hook.every_n_train_iters(runner, hook.interval)
        for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)
