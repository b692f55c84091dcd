"""Settles calibrated gates on the network as evaluation runs it."""
from itertools import chain, islice, repeat
from typing import Any, Optional, Union

import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from ..backbones.dynamic_backbone import DynamicBackbone
from ..engine.unwrapped import unwrapped
from ..layers.gate import check_number
from ..layers.gate_spread import GateSpread, constant_gates, say_constant
from ..registry import HOOKS


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Runs some training images in evaluation mode and lets the gates' quantiles follow.

    While training, a gate's logits come from sampled gates before it and from batch statistics;
    at evaluation both are gone, and the quantile at which a target share of images opened may
    open another share. So the quantiles are settled once more at the end of each epoch, or, where
    training counts in iterations, before each validation; before the checkpoint is written. For
    gates with ``open_probability='calibrated'``. With MMEngine's ``EMAHook`` it is the averaged
    weights that are evaluated and that the checkpoint is for, so theirs are the quantiles.

    Augmentation shifts a gate's logits too: a gate that was calibrated on crops with black borders
    (CIFAR-10) met a target of 0.52 with rates between 0.11 and 0.61 on whole pictures. ``dataloader``
    names images as evaluation will see them: training images through the test pipeline.

    A quantile needs gates that tell images apart. Of a gate whose open probability hardly spreads over
    the images it cuts through differences that mean nothing: the rate is met, and which images open is
    chance. Such gates are named in a warning at the end of the training.

    Args:
        num_batches: Batches to run.
        dataloader: Config of the dataloader that they come from; by default that of training.
        interval: Epochs between two calibrations, 1 by default; or iterations, by default those
            between two validations. The end of the training always calibrates.
        by_epoch: Whether ``interval`` counts epochs. By default it counts what the training loop does.

    Raises:
        ValueError: Naming the option; or if epochs are to be counted in a loop that has none.
    """

    priority = 'LOW'  # before CheckpointHook, which is VERY_LOW

    def __init__(self,
                 *,
                 num_batches: int = 50,
                 dataloader: Optional[dict] = None,
                 interval: Optional[int] = None,
                 by_epoch: Optional[bool] = None) -> None:
        given = dict(num_batches=num_batches) if interval is None else dict(num_batches=num_batches, interval=interval)
        for name, value in given.items():
            if check_number(name, value, 1) != int(value):
                raise ValueError(f'{name} must be an int of at least 1, got {value!r}')
        self.num_batches = int(num_batches)
        self.dataloader: Union[None, dict, DataLoader] = dataloader
        self.interval = interval
        self.by_epoch = by_epoch
        self._spreads: list[GateSpread] = []  # of each backbone, over the last calibration

    def before_train(self, runner) -> None:
        """Looks at the loop and builds the dataloader, so that a wrong config is found before the training."""
        loop = runner.train_loop
        counts_epochs = not isinstance(loop, IterBasedTrainLoop)
        if self.by_epoch is None:
            self.by_epoch = counts_epochs
        elif self.by_epoch and not counts_epochs:
            raise ValueError('CalibrationHook: by_epoch=True needs a training loop that counts epochs, got an '
                             f'{type(loop).__name__}; leave by_epoch out')
        if self.interval is None:
            self.interval = 1 if self.by_epoch else loop.val_interval
        if self.dataloader is None:
            self.dataloader = runner.train_dataloader
        else:
            self.dataloader = runner.build_dataloader(self.dataloader, seed=runner.seed)

    def after_train_epoch(self, runner) -> None:
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            self.calibrate(runner)

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: Optional[Any] = None,
                         outputs: Optional[dict] = None) -> None:
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval)
                                  or self.is_last_train_iter(runner)):
            self.calibrate(runner)

    def after_train(self, runner) -> None:
        """Says where the calibration could not help."""
        spreads = [spread.take(all_ranks=True) for spread in self._spreads]
        if constant := [name for own in spreads for name in constant_gates(own)]:
            runner.logger.warning(
                f'{say_constant(constant)} Calibration cannot help there: its quantile cuts through differences that '
                'mean nothing, so that which images open is chance. tools/analysis_tools/sweep_budget.py finds one '
                'threshold for all gates instead, and with --controls tells whether a fixed choice of blocks does better.')

    def calibrate(self, runner) -> None:
        """Moves the quantiles by ``num_batches`` batches, with the weights that evaluation runs."""
        averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        for hook in averages:
            hook.before_val_epoch(runner)
        self._calibrate(runner)
        for hook in averages:
            hook.after_val_epoch(runner)
            if not hook.ema_model.update_buffers:  # then it leaves all buffers where they are
                _copy_buffers(hook.src_model, hook.ema_model.module)

    @torch.no_grad()
    def _calibrate(self, runner) -> None:
        model = unwrapped(runner.model)
        backbones = [m for m in model.modules() if isinstance(m, DynamicBackbone)]
        model.eval()
        for backbone in backbones:
            backbone.restart_calibration()
        self._spreads = [GateSpread() for _ in backbones]
        # Small sets are gone through again.
        batches = chain.from_iterable(repeat(_images_of(self.dataloader, runner.seed + runner.iter)))
        for batch in islice(batches, self.num_batches):
            inputs = model.data_preprocessor(batch, False)['inputs']
            for backbone, spread in zip(backbones, self._spreads):
                backbone(inputs)
                backbone.calibrate()
                spread.add({name: backbone.decisions.gate_logits[name] for name, gate in backbone.gates().items()
                            if gate.open_probability == 'calibrated'})
        model.train()


@torch.no_grad()
def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    for own, wanted in zip(target.buffers(), source.buffers()):
        own.copy_(wanted)


def _images_of(loader: DataLoader, seed: int) -> DataLoader:
    """The training's data, without touching its loader.

    In iteration-based training the loader's iterator is in use, and batches taken from its sampler would be missing in
    the training: a resumed one would see other images than an uninterrupted one.
    """
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size or loader.batch_sampler.batch_size,
        sampler=DefaultSampler(loader.dataset, seed=seed),
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        collate_fn=loader.collate_fn)
