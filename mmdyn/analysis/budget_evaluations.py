"""Evaluations of one checkpoint at many budgets, each made once: the network's own decisions, and controls."""
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple, Optional

import torch
from mmengine.runner import Runner

from .budget_knob import Knob
from .budget_search import find_value
from .fixed_choice import Choice, best_within, close_greedily, mean_wiring
from .routed_images import Outcome, RoutedImages, Routes, deal, forced
from .sweep_file import SweepFile


class Setting(NamedTuple):
    """A value of the knob.

    Attributes:
        value: Larger ones close more.
        budget: Share of the dense cost that it is to meet; None where the value was given.
        share: What training images cost at it; NaN where that was not asked for.
    """
    value: float
    budget: Optional[float]
    share: float


class BudgetEvaluations:
    """Evaluations of one checkpoint: what is chosen is chosen on training images, and evaluated on validation images.

    Args:
        runner: Evaluates the model.
        knob: Of its backbone.
        training: Batches of training images; None where only given values are evaluated, without controls.
        file: What has been found so far.
        seed: Of the random control.
    """

    def __init__(self, runner: Runner, knob: Knob, training: Optional[list], file: SweepFile, seed: int) -> None:
        self.runner, self.knob, self.file, self.seed = runner, knob, file, seed
        self.backbone = runner.model.backbone
        self.gates = list(self.backbone.gates())
        self.training = None if training is None else RoutedImages(runner.model, knob, training, seed)
        self.one_batch = RoutedImages(runner.model, knob, (training or [])[:1])  # for what is the same for all images
        self.measure = cache(self._measure)

    def _measure(self, value: float) -> Outcome:
        """What the training images do at a value; the backbone alone runs."""
        assert self.training is not None
        setattr(self.backbone, self.knob.name, value)
        return self.training.run()

    def meet(self, budget: float) -> Setting:
        """The value that meets a budget on the training images."""
        row = self.file.once('settings', dict(budget=budget), lambda: find_value(
            budget, self.measure, self.knob.lowest, self.knob.highest)._asdict())
        return Setting(**row)

    def take(self, value: float) -> Setting:
        """A given value, and what it costs on the training images if there are any."""
        if self.training is None:
            return Setting(value, None, float('nan'))
        return Setting(**self.file.once('settings', dict(budget=None, value=value),
                                        lambda: dict(share=self.measure(value).share)))

    def own(self, value: float) -> dict[str, Any]:
        """The point of the network's own decisions."""
        return self.file.once('points', dict(kind='own', value=value), lambda: self._evaluate(value))

    def has_decided(self, own: dict[str, Any]) -> bool:
        """Whether controls are other networks: with all gates open they are the same."""
        return own['ratio'] < 1 or not self.gates

    def random(self, value: float) -> dict[str, Any]:
        """The point of the same routes, dealt to the validation images at random."""
        return self.file.once('points', dict(kind='random', value=value), lambda: self._evaluate(
            value, deal(self._validation_routes(value), self.seed)))

    def fixed(self, setting: Setting) -> dict[str, Any]:
        """The point of decisions for all images that cost no more on the training images than the own decisions."""
        value, share = setting.value, setting.share
        if not self.gates:
            return self.file.once('points', dict(kind='fixed', value=value),
                                  lambda: self._evaluate(value, self._mean_route(setting)))
        choice = best_within(close_greedily(self.gates, self._try_out, share), share)
        return self.file.once('points', dict(kind='fixed', closed=list(choice.closed)),
                              lambda: self._evaluate(value, self._without(choice.closed)))

    def _mean_route(self, setting: Setting) -> Routes:
        """The mean wiring of the training images, cut as far as their cost asks for; uncut if every node may run."""
        own = self.measure(setting.value).routes

        def route(cut: float) -> Routes:
            return {stage: mean_wiring(adjacency, cut)[None] for stage, adjacency in own.items()}

        def measure(cut: float) -> Outcome:
            with forced(self.backbone, route(cut)):
                return self.one_batch.run()

        heaviest = max(adjacency.mean(dim=0).max().item() for adjacency in own.values())
        return route(find_value(setting.share, cache(measure), 0.0, heaviest).value)

    def _try_out(self, closed: tuple[str, ...]) -> Choice:
        """Loss and cost of the training images without the blocks of some gates."""

        def run() -> dict[str, Any]:
            assert self.training is not None
            with forced(self.backbone, self._without(closed)):
                outcome = self.training.run(with_loss=True)
            return dict(loss=outcome.loss, share=outcome.share)

        row = self.file.once('choices', dict(closed=list(closed)), run)
        return Choice(closed, row['loss'], row['share'])

    def _without(self, closed: Sequence[str]) -> Routes:
        """The one route that leaves the blocks of some gates out."""
        return {name: torch.tensor([float(name not in closed)]) for name in self.gates}

    def _validation_routes(self, value: float) -> Routes:
        setattr(self.backbone, self.knob.name, value)
        return RoutedImages(self.runner.model, self.knob, self.runner.val_dataloader).run().routes

    def _evaluate(self, value: float, routes: Optional[Routes] = None) -> dict[str, Any]:
        setattr(self.backbone, self.knob.name, value)
        with nullcontext() if routes is None else forced(self.backbone, routes):
            metrics = {name: float(metric) for name, metric in self.runner.val().items()}
        return dict(ratio=metrics['compute/ratio'], gmacs=metrics['compute/gmacs_mean'], metrics=metrics)
