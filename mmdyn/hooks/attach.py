"""Connects a model to the decisions of its dynamic backbones, through a forward hook."""
import inspect
from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount
from ..engine.unwrapped import unwrapped
from ..losses import TaughtGateLoss
from ..registry import MODELS

# Pixels of the input at which the costs of blocks are compared.
_PROBE = (256, 256)


def attach(model: nn.Module, losses: Sequence[Union[dict, nn.Module]] = ()) -> 'Attachment':
    """Adds losses on the decisions to whatever loss dict a model returns.

    Works on any MMDetection detector and MMPretrain classifier: in mode ``loss`` the loss dict
    gains the losses and ``open_rate`` (logged, not summed); in mode ``predict`` each data sample
    gains its own ``decisions``, in main memory, and its ``cost`` (:class:`mmdyn.cost.ImageCost`).

    Args:
        model: The model, or a wrapper of it (data-parallel, compiled, of test-time augmentation: then a prediction has
            the decisions and the cost of its first view).
        losses: Loss modules or their configs; each takes :class:`Decisions` and returns a scalar,
            or None where it does not apply. One with a true attribute ``needs_cost`` takes the
            backbone's :class:`mmdyn.cost.CostAccount` as well, one with ``needs_labels`` the labels
            of the images: (N,), or (N, classes) where they are mixed. One with methods ``link`` and
            ``update`` is given the model at once, and a chance to follow it before each forward.

    Returns:
        The attachment; its ``remove()`` undoes it.

    Raises:
        ValueError: If the model has no dynamic backbone, or one that is attached already, or no modes.
    """
    model = unwrapped(model)
    backbones = {name: m for name, m in model.named_modules() if isinstance(m, DynamicBackbone)}
    if not backbones:
        raise ValueError(f'{type(model).__name__} has no dynamic backbone; use one such as '
                         "backbone=dict(type='mmdyn.AIGResNet', ...)")
    for name, backbone in backbones.items():
        if backbone.losses_attached:
            raise ValueError(f'{name} is attached already: use either mmdyn.attach or '
                             'DynamicModelHook, once')
    if 'mode' not in inspect.signature(model.forward).parameters:
        raise ValueError(f"expected a model of MMEngine's kind, whose forward has a mode ('loss', 'predict'), got "
                         f'{type(model).__name__}; if it wraps such a model, attach to that')
    losses = [MODELS.build(loss) if isinstance(loss, dict) else loss for loss in losses]
    return Attachment(model, backbones, losses)


class Attachment:
    """The forward hook on a model, and the losses that it adds.

    Attributes:
        backbones: Module name -> dynamic backbone.
        losses: The loss modules; their state (moving windows) belongs in a checkpoint.
        accounts: Module name -> cost account of that backbone.
    """

    def __init__(self, model: nn.Module, backbones: dict[str, DynamicBackbone],
                 losses: Sequence[nn.Module]) -> None:
        self.backbones = backbones
        self.losses = nn.ModuleList(losses)
        self.accounts = {name: CostAccount(backbone) for name, backbone in backbones.items()}
        if any(getattr(loss, 'needs_cost', False) for loss in losses):
            for account in self.accounts.values():
                account.prepare()
        for loss in self._linking():
            loss.link(model)
        self._signature = inspect.signature(model.forward)
        for name, backbone in backbones.items():
            backbone.losses_attached = True
            if backbone.gates():
                _share_costs(backbone, self.accounts[name])
        self._handles = [model.register_forward_pre_hook(self._before_forward),
                         model.register_forward_hook(self, with_kwargs=True)]

    def remove(self) -> None:
        """Takes the hook off the model."""
        for handle in self._handles:
            handle.remove()
        for backbone in self.backbones.values():
            backbone.losses_attached = False

    def update(self) -> None:
        """Lets what follows the model's weights follow them; before each forward it happens by itself."""
        for loss in self._linking():
            loss.update()

    def _linking(self) -> list[nn.Module]:
        return [loss for loss in self.losses if hasattr(loss, 'link')]

    def _before_forward(self, model: nn.Module, args: tuple) -> None:
        self.update()

    def __call__(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        arguments = self._signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        mode = arguments.arguments.get('mode')
        if mode == 'loss' and isinstance(output, dict):
            self._add_losses(output, arguments.arguments.get('data_samples'))
        elif mode == 'predict' and isinstance(output, (list, tuple)):
            self._hand_out_decisions(output)

    def _add_losses(self, output: dict[str, Any], samples: Optional[Sequence[Any]]) -> None:
        for i, (name, backbone) in enumerate(self.backbones.items()):
            decisions = backbone.decisions
            if decisions is None or not backbone.training:
                continue
            self._require_teacher(backbone)
            suffix = f'_{i}' if i else ''
            calibrated = decisions.average(backbone.calibration_rows()) if decisions.gates else None
            for loss in self.losses:
                needs = []
                if getattr(loss, 'needs_cost', False):
                    needs.append(self.accounts[name])
                if getattr(loss, 'needs_labels', False):
                    needs.append(_labels(samples, loss))
                value = loss(decisions, *needs)
                if value is not None:
                    output[loss.name + suffix] = value
            if decisions.gates:
                output['open_rate' + suffix] = decisions.open_rates.detach().mean()
            backbone.calibrate(calibrated)

    def _require_teacher(self, backbone: DynamicBackbone) -> None:
        """Gates of some kinds learn nothing from the losses of others."""
        if backbone.needed_loss == 'mmdyn.GateClassLoss' and not self._linking():
            raise ValueError(
                "gate=dict(num_classes=...) asks the model's classifier, and nothing has named one: add "
                "dict(type='mmdyn.GateClassLoss', classifier='head.fc') to the losses. Without a classifier, as in "
                'detectors, leave num_classes out')
        taught = any(isinstance(loss, TaughtGateLoss) for loss in self.losses)
        if backbone.needed_loss == 'mmdyn.TaughtGateLoss' and self.losses and not taught:
            raise ValueError(
                "gate=dict(estimator='taught') learns from TaughtGateLoss alone: expected "
                "dict(type='mmdyn.TaughtGateLoss') among the losses, got "
                f'{", ".join(type(loss).__name__ for loss in self.losses)}')

    def _hand_out_decisions(self, samples: Sequence[Any]) -> None:
        # With several dynamic backbones, a prediction's own are those of the first.
        name, backbone = next(iter(self.backbones.items()))
        decisions = backbone.decisions
        if decisions is None or len(decisions) != len(samples):
            return
        decisions = decisions.cpu()  # once for all that ask
        for i, (sample, cost) in enumerate(zip(samples, self.accounts[name].images(decisions))):
            sample.set_field(decisions[i], 'decisions')
            sample.set_field(cost, 'cost')


def _share_costs(backbone: DynamicBackbone, account: CostAccount) -> None:
    """Tells each gate which share of what can be left out is behind it; the shares hardly depend on the size."""
    of_gate = account.gate_macs(_PROBE)
    for name, gate in backbone.gates().items():
        gate.cost = of_gate[name] / sum(of_gate.values())


def _labels(samples: Optional[Sequence[Any]], loss: nn.Module) -> Tensor:
    """As MMPretrain's heads read them: scores where images are mixed, else class indices."""
    for name, collect in (('gt_score', torch.stack), ('gt_label', torch.cat)):
        if samples and all(name in sample for sample in samples):
            return collect([getattr(sample, name) for sample in samples])
    raise ValueError(f'{type(loss).__name__} expects data samples with a gt_label each, as those of MMPretrain '
                     f'have; got {type(samples[0]).__name__ if samples else samples!r} without')
