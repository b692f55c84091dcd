"""What closing each gate costs each image, and how well derivatives, and the gates themselves, tell it."""
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..engine import InputError
from .trained_model import build_model, load_weights, read_config
from .training_images import training_images


class ClosingCost(NamedTuple):
    """Of one gate and one image; all gates but this one are open.

    Attributes:
        change: By how much the model's loss rises when the gate closes.
        at_open: What the derivative of the loss with respect to the decision says of that, where the gate is open.
        at_closed: The same where it is closed.
        logit: What the gate says itself, all gates before it being open.
    """
    change: float
    at_open: float
    at_closed: float
    logit: float

    @property
    def at_both(self) -> float:
        """The mean of both ends: the trapezoid's rule."""
        return (self.at_open + self.at_closed) / 2


class ClosingCosts:
    """Measures one image after the other.

    Args:
        model: The whole detector or classifier; its backbone has gates.
        seed: Of what a loss draws, such as the proposals that a detector samples: the same for each decision.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.model, self.seed = model.eval(), seed
        self.backbone: DynamicBackbone = model.backbone
        if not self.backbone.gates():
            raise InputError(f'expected a backbone with gates, this {type(self.backbone).__name__} has none')
        self.backbone.execution = 'mask'  # so that the loss has a derivative with respect to decisions

    def of_image(self, data: Mapping[str, Any]) -> dict[str, ClosingCost]:
        """Block name -> cost.

        Args:
            data: Of one image, as the model's preprocessor returns it.
        """
        open_loss, open_slopes, logits = self._run(data, {name: 1.0 for name in self.backbone.gates()})
        costs = {}
        for name, at_open in open_slopes.items():
            loss, slopes, _ = self._run(data, {other: float(other != name) for other in open_slopes})
            costs[name] = ClosingCost(loss - open_loss, -at_open, -slopes[name], logits[name])
        return costs

    def _run(self, data: Mapping[str, Any], opened: Mapping[str, float]) -> tuple[float, dict[str, float], dict[str, float]]:
        """Loss, and of each gate its derivative and what the gate says."""
        gates = {name: torch.tensor([value], requires_grad=True) for name, value in opened.items()}
        self.backbone.force_decisions(gates)
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)  # some of MMDetection's samplers
        with torch.enable_grad():
            loss, _ = self.model.parse_losses(self.model(**data, mode='loss'))
        # A block after the last map that the model reads changes nothing.
        slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True, materialize_grads=True)
        logits = self.backbone.decisions.gate_logits
        return (loss.item(), {name: slope.item() for name, slope in zip(gates, slopes)},
                {name: logits[name].item() for name in gates})


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; NaN where one of the two is the same throughout. Ties are rare here and not averaged."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float('nan')
    ranks = [values.argsort().argsort() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def table(costs: list[dict[str, ClosingCost]]) -> str:
    """A line for each gate: mean change of the loss, its spread, and rank correlations over the images."""
    lines = [f'{"block":12}{"change":>9}{"spread":>9}   rank correlation with the change, over images:',
             f'{"":30}{"at open":>10}{"at closed":>11}{"at both":>9}{"gate":>7}']
    for name in costs[0]:
        own = np.array([(*cost[name], cost[name].at_both) for cost in costs])
        change, at_open, at_closed, logit, at_both = own.T
        told = [rank_correlation(change, values) for values in (at_open, at_closed, at_both, logit)]
        lines.append(f'{name:12}{change.mean():9.4f}{change.std():9.4f}{told[0]:10.2f}{told[1]:11.2f}{told[2]:9.2f}'
                     f'{told[3]:7.2f}')
    means = np.array([[(*cost[name], cost[name].at_both) for name in costs[0]] for cost in costs]).mean(axis=0)
    told = [rank_correlation(means[:, 0], means[:, i]) for i in (1, 2, 4, 3)]
    lines.append(f'{"the means":30}{told[0]:10.2f}{told[1]:11.2f}{told[2]:9.2f}{told[3]:7.2f}')
    return '\n'.join(lines)


def closing_costs(config: str, checkpoint: str, *, images: int, cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """What the options of tools/analysis_tools/closing_costs.py ask for.

    Raises:
        InputError, CheckpointError: If an option, the config, the checkpoint or the images cannot be used.
    """
    if images < 2:
        raise InputError(f'--images expects at least 2, got {images}')
    cfg = read_config(config, cfg_options)
    model = build_model(cfg)
    yield load_weights(model, checkpoint)
    measure = ClosingCosts(model)
    cfg.val_dataloader['batch_size'] = 1
    costs = [measure.of_image(model.data_preprocessor(batch, False)) for batch in training_images(cfg, images)]
    yield f'\nthe loss of {len(costs)} training images when one gate closes and all others are open:\n{table(costs)}'
