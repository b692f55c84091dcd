"""What closing each gate costs each image, and how well derivatives, and the gates themselves, tell it."""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..checkpoints import read_state_dict
from ..cost import CostAccount
from ..engine import InputError, check_weights
from .closing_room import room
from .cost_regression import cross_predicted
from .routed_images import seeded_loss
from .trained_model import build_model, read_config
from .training_images import training_images


class ClosingCost(NamedTuple):
    """Of one gate and one image; all gates but this one are open.

    Attributes:
        change: By how much the model's loss rises when the gate closes.
        at_open: What the derivative of the loss with respect to the decision says of that, where the gate is open.
        at_closed: The same where it is closed.
        logit: What the gate says itself, all gates before it being open; NaN for gates that have not been trained.
        share: Of the image's dense cost that is saved.
    """
    change: float
    at_open: float
    at_closed: float
    logit: float
    share: float


class ClosingCosts:
    """Measures one image after the other.

    Args:
        model: The whole detector or classifier; its backbone has gates.
        seed: Of what a loss draws, such as the proposals that a detector samples: the same for each decision.

    Attributes:
        read: Block name -> what its gate has read of each image, (C,), all gates being open.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.model, self.seed = model.eval(), seed
        self.backbone: DynamicBackbone = model.backbone
        if not self.backbone.gates():
            raise InputError(f'expected a backbone with gates, this {type(self.backbone).__name__} has none')
        self.backbone.execution = 'mask'  # so that the loss has a derivative with respect to decisions
        self.account = CostAccount(self.backbone)
        self.read: dict[str, list[np.ndarray]] = {name: [] for name in self.backbone.gates()}

    def of_image(self, data: Mapping[str, Any]) -> dict[str, ClosingCost]:
        """Block name -> cost.

        Args:
            data: Of one image, as the model's preprocessor returns it.
        """
        with self._reading():
            open_loss, open_slopes, logits = self._run(data, {name: 1.0 for name in self.backbone.gates()})
        size = tuple(data['inputs'].shape[-2:])
        macs, dense = self.account.gate_macs(size), self.account.dense_macs(size)
        costs = {}
        for name, at_open in open_slopes.items():
            loss, slopes, _ = self._run(data, {other: float(other != name) for other in open_slopes})
            costs[name] = ClosingCost(loss - open_loss, -at_open, -slopes[name], logits[name], macs[name] / dense)
        return costs

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Within it, what the gates read is kept."""
        handles = [gate.register_forward_pre_hook(partial(self._keep, name)) for name, gate in self.backbone.gates().items()]
        yield
        for handle in handles:
            handle.remove()

    def _keep(self, name: str, gate: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.read[name].append(arguments[0][0].detach().cpu().numpy())

    def _run(self, data: Mapping[str, Any], opened: Mapping[str, float]) -> tuple[float, dict[str, float], dict[str, float]]:
        """Loss, and of each gate its derivative and what the gate says."""
        gates = {name: torch.tensor([value], requires_grad=True) for name, value in opened.items()}
        self.backbone.force_decisions(gates)
        with torch.enable_grad():
            loss = seeded_loss(self.model, data, self.seed)
        # A block after the last map that the model reads changes nothing.
        slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True, materialize_grads=True)
        logits = self.backbone.decisions.gate_logits
        return (loss.item(), {name: slope.item() for name, slope in zip(gates, slopes)},
                {name: logits[name].item() for name in gates})


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; NaN where one of the two is unknown or the same throughout."""
    if len(first) < 2 or any(np.isnan(values).any() or np.ptp(values) == 0 for values in (first, second)):
        return float('nan')
    return float(spearmanr(first, second)[0])


def table(costs: list[dict[str, ClosingCost]], read: Mapping[str, list[np.ndarray]]) -> str:
    """A line for each gate, one over all gates and images, and one over the means of the gates.

    Args:
        costs: Of each image.
        read: See :class:`ClosingCosts`.
    """
    change, at_open, at_closed, logit, _ = _fields(costs)
    told = np.stack([cross_predicted(np.array(read[name]), change[:, i]) for i, name in enumerate(costs[0])], axis=1)
    values = np.stack([change, at_open, at_closed, (at_open + at_closed) / 2, logit, told])  # (6, images, gates)
    rows = {name: values[:, :, i] for i, name in enumerate(costs[0])}
    rows |= {'all': values.reshape(6, -1), 'the means': values.mean(axis=1)}
    lines = [f'{"":12}{"change of loss":>18}  {"derivative / change":>24}   {"rank correlation with the change":>42}',
             f'{"block":12}{"mean":>9}{"spread":>9}  {"open":>8}{"closed":>8}{"both":>8}   '
             f'{"open":>8}{"closed":>8}{"both":>8}{"gate":>8}{"fitted":>10}']
    for name, row in rows.items():
        means = row.mean(axis=1)
        ranks = [rank_correlation(row[0], other) for other in row[1:]]
        shares = means[1:4] / means[0] if means[0] else [float('nan')] * 3  # a block behind all maps that are read
        lines.append(f'{name:12}{means[0]:9.4f}{row[0].std():9.4f}  ' + ''.join(f'{value:8.2f}' for value in shares)
                     + '   ' + ''.join(f'{rank:8.2f}' for rank in ranks[:-1]) + f'{ranks[-1]:10.2f}')
    return '\n'.join(lines)


def _fields(costs: list[dict[str, ClosingCost]]) -> np.ndarray:
    """(fields, images, gates)."""
    return np.moveaxis(np.array([list(cost.values()) for cost in costs]), 2, 0)


def load_own_or_static(model: nn.Module, path: str) -> str:
    """Loads a checkpoint of the model, or of its static parent, whose gates then say nothing (NaN).

    Raises:
        CheckpointError: If anything but all gates is missing, left over or of another shape.
    """
    weights = read_state_dict(path)
    gates = {id(gate) for gate in model.backbone.gates().values()}
    of_gates = {f'{name}.{key}': torch.full_like(value, float('nan')) if value.is_floating_point() else value
                for name, module in model.named_modules() if id(module) in gates
                for key, value in module.state_dict().items()}
    static = not of_gates.keys() & weights.keys()
    weights = weights | of_gates if static else weights
    summary = check_weights(model, weights, path)
    model.load_state_dict(weights, strict=False)
    return summary + (', those of gates made up: this is the checkpoint of a static network' if static else '')


def closing_costs(config: str, checkpoint: str, *, images: int, budget: float,
                  cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """What the options of tools/analysis_tools/closing_costs.py ask for.

    Raises:
        InputError, CheckpointError: If an option, the config, the checkpoint or the images cannot be used.
    """
    if images < 2:
        raise InputError(f'--images expects at least 2, got {images}')
    if not 0 < budget <= 1:
        raise InputError(f'--budget expects a share of the dense cost in (0, 1], got {budget:g}')
    cfg = read_config(config, cfg_options)
    model = build_model(cfg)
    measure = ClosingCosts(model)
    yield load_own_or_static(model, checkpoint)
    cfg.val_dataloader['batch_size'] = 1
    costs = [measure.of_image(model.data_preprocessor(batch, False)) for batch in training_images(cfg, images)]
    yield (f'\nthe loss of {len(costs)} training images when one gate closes and all others are open:\n'
           f'{table(costs, measure.read)}')
    change, _, _, logit, share = _fields(costs)
    yield '\n' + room(budget, change, share, logit)
