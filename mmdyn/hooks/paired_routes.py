"""Two routes through a model for each image, without touching the model's heads."""
import inspect
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Iterator, Optional, Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..layers.gate import ConfidenceGate, check_number
from .route_distance import DISTANCES, RANKS


@dataclass(frozen=True)
class Distance:
    """What is compared between the routes.

    Attributes:
        module: Name of the module whose outputs are.
        kind: A name in :data:`mmdyn.hooks.route_distance.DISTANCES`.
        weight: Of the distance in the loss, and in the damage.
    """

    module: str
    kind: str = 'maps'
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in DISTANCES:
            raise ValueError(f'kind of a distance must be one of {list(DISTANCES)}, got {self.kind!r}')
        check_number('weight of a distance', self.weight, 0.0)

    def between(self, opened: Sequence[Tensor], routed: Sequence[Tensor], images: int) -> Tensor:
        """(images,): the mean over the levels.

        Raises:
            ValueError: If what the module gave is not one row an image, in the shape that its kind compares.
        """
        shapes = [_shapes(levels) for levels in (opened, routed)]
        dims = RANKS[self.kind]
        if not opened or shapes[0] != shapes[1] or any(len(shape) != dims or shape[0] != images for shape in shapes[0]):
            raise ValueError(
                f'distances: kind {self.kind!r} compares tensors of {dims} dimensions, the first of them the {images} '
                f'images of the batch; {self.module!r} gave {shapes[0]} in the open pass, {shapes[1]} in the routed one. '
                'What is not image by image, such as the scores of sampled proposals, cannot be compared: name another '
                "module, such as 'neck' with kind 'maps'")
        return self.weight * torch.stack([DISTANCES[self.kind](o.detach(), r) for o, r in zip(opened, routed)]).mean(dim=0)


class PairedRoutes:
    """A forward hook that sends a training batch through the model once more, with all blocks open.

    Args:
        model: A detector or classifier whose dynamic backbones have gates.
        twice: Whether each image takes both routes; otherwise half of the batch is open.
        routed_weight: Weight of the routed losses.
        updates: 1: the open pass is a part of each forward, and its losses have the rest of the weight. 2: the caller
            makes it before, as a step of its own in :meth:`open_step`, and its losses have their whole weight.
        distances: What is compared; None for :func:`default_distance`.

    Attributes:
        distance_weight: Multiplies the distances, in the loss and in the damage.
        active: Whether there are two routes now; otherwise all blocks run.

    Raises:
        ValueError: If the model has no gates to decide about routes, or no module of a distance's name.
    """

    def __init__(self, model: nn.Module, *, twice: bool = True, routed_weight: float = 0.5, updates: int = 1,
                 distances: Optional[Sequence[Distance]] = None) -> None:
        self.backbones = [m for m in model.modules() if isinstance(m, DynamicBackbone)]
        gates = [gate for backbone in self.backbones for gate in backbone.gates().values()]
        if not gates or any(isinstance(gate, ConfidenceGate) for gate in gates):
            raise ValueError(f'paired routes need a backbone whose gates decide while training, {type(model).__name__} '
                             f'has {"confidence gates" if gates else "none"}')
        self._model = model
        self.twice = twice
        self.routed_weight = routed_weight
        self.updates = updates
        self.distance_weight = 1.0
        self.distances = [default_distance(model)] if distances is None and twice else list(distances or ())
        self._parameters = [p for gate in gates for p in gate.parameters()]
        self._signature = inspect.signature(model.forward)
        self._seen: dict[str, list[Tensor]] = {}
        self._opened: dict[str, list[Tensor]] = {}  # what the open step before this one gave
        self._images: Any = None  # and what it saw
        self._in_open_step = False
        self._asked = False
        self._call: Any = None  # what the routed pass is given, for the open one
        # Without a closure, for a copy of the model is to keep its own.
        self._handles = [_module(model, name).register_forward_hook(partial(self._keep, name))
                         for name in {distance.module for distance in self.distances}]
        if twice and updates == 1:
            self._handles.append(model.register_forward_pre_hook(self._keep_call, with_kwargs=True))
        if updates == 2:
            self._handles.append(model.data_preprocessor.register_forward_hook(self._see_the_same))
        # Before the losses on decisions: they are to read what the routed images' gates have decided.
        self._handles.append(model.register_forward_hook(self, prepend=True, with_kwargs=True))
        self.active = True

    @property
    def active(self) -> bool:
        return self._active

    @active.setter
    def active(self, active: bool) -> None:
        self._active = active
        for backbone in self.backbones:
            backbone.open_share = (0.0 if self.twice else 0.5) if active else 1.0

    @contextmanager
    def open_step(self) -> Iterator[None]:
        """All blocks run; what the model sees and gives is kept for the routed pass that comes next."""
        self.active = False
        self._in_open_step = True
        try:
            yield
        finally:
            self._in_open_step = False

    def let_rest(self, optimizer: torch.optim.Optimizer) -> None:
        """From now on the optimiser leaves gates alone in a step before which nobody has asked them.

        Their gradients of zero would still be averaged in by momentum and Adam, and weight decay would shrink them.
        """
        self._handles.append(optimizer.register_step_pre_hook(self._before_step))

    def _before_step(self, *_: Any) -> None:
        if not self._asked:
            for parameter in self._parameters:
                parameter.grad = None
        self._asked = False

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        for backbone in self.backbones:
            backbone.open_share = 0.0

    def _keep(self, name: str, module: nn.Module, args: tuple, output: Any) -> None:
        if self._model.training and torch.is_grad_enabled():  # a frozen stage is not in training itself
            self._seen.setdefault(name, []).extend(_levels(output))  # of each call: heads call a layer once a level

    def _keep_call(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if self.active and model.training and torch.is_grad_enabled():
            self._call = _copied((args, kwargs))

    def _see_the_same(self, preprocessor: nn.Module, args: tuple, data: Any) -> Any:
        """Both steps' images and labels: what is drawn in the preprocessor (mixup, random sizes) is drawn once."""
        if self._in_open_step:
            self._images = _copied(data)
            return data
        images, self._images = self._images, None
        return data if images is None else images

    def __call__(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        routed, self._seen = self._seen, {}
        bound = self._signature.bind(*args, **kwargs)
        trains = model.training and torch.is_grad_enabled() and bound.arguments.get('mode') == 'loss'
        call, self._call = self._call, None
        if not trains or not isinstance(output, dict):
            return output
        if not self.active:
            if self._in_open_step:
                self._opened = {name: [level.detach() for level in levels] for name, levels in routed.items()}
            # Nobody was asked; data-parallel wrappers expect a gradient of every parameter all the same.
            return dict(output, loss_route_distance=sum(p.sum() for p in self._parameters) * 0.0)
        self._asked = True
        if not self.twice:
            return output
        if self.updates == 2:
            opened, self._opened = self._opened, {}
            output = {name: _scaled(value, self.routed_weight) if 'loss' in name else value  # others are only logged
                      for name, value in output.items()}
        else:
            opened, output = self._with_open_pass(model, call, output)
        if self.distances:
            images = len(self.backbones[0].decisions.sizes)
            distances = [d.between(opened.get(d.module, ()), routed.get(d.module, ()), images) for d in self.distances]
            moved = self.distance_weight * torch.stack(distances).sum(dim=0)
            output['loss_route_distance'] = moved.mean()
            for backbone in self.backbones:
                backbone.decisions.damage = moved.detach()
        return output

    def _with_open_pass(self, model: nn.Module, call: tuple[tuple, dict], output: dict) -> tuple[dict, dict]:
        """What an open pass over the same images gives, and the weighted mean of its losses and these."""
        decisions = [backbone.decisions for backbone in self.backbones]
        with ExitStack() as stack:
            for backbone in self.backbones:
                stack.enter_context(backbone.all_open())
            args, kwargs = call
            open_output = model.forward(*args, **kwargs)
        opened, self._seen = self._seen, {}
        for backbone, decided in zip(self.backbones, decisions):
            backbone.decisions = decided
        return opened, self._mean(open_output, output)

    def _mean(self, opened: Any, routed: Any, of: str = 'loss') -> Any:
        """Of losses, or dicts and lists of them.

        Raises:
            ValueError: If a pass has a loss that the other has not.
        """
        if isinstance(routed, dict):
            if set(opened) != set(routed):
                raise ValueError('paired routes take the mean of the losses of both passes: expected the same ones of '
                                 f'each, got {list(opened)} of the open and {list(routed)} of the routed one')
            return {name: self._mean(opened[name], value, name) for name, value in routed.items()}
        if isinstance(routed, (list, tuple)):
            if len(opened) != len(routed):
                raise ValueError('paired routes take the mean of the losses of both passes: expected the same ones of '
                                 f'each, got {len(opened)} and {len(routed)} in the list {of!r}')
            return [self._mean(*pair, of) for pair in zip(opened, routed)]
        return (1 - self.routed_weight) * opened + self.routed_weight * routed


def default_distance(model: nn.Module) -> Distance:
    """What tells best how much worse a model does on the route: its scores.

    Of a classifier the logits; of a one-stage detector with sigmoid scores those. Of the others the maps that the heads
    read, which tell damage less well (configs/robocup_ssl/decisions.md).
    """
    if any(kind.__module__.startswith('mmpretrain') for kind in type(model).__mro__):
        return Distance('head', 'logits')
    head = getattr(model, 'bbox_head', None)
    # TOOD's outputs are probabilities already.
    if getattr(head, 'use_sigmoid_cls', False) and all(kind.__name__ != 'TOODHead' for kind in type(head).__mro__):
        return Distance('bbox_head', 'scores')
    return Distance('neck' if getattr(model, 'neck', None) is not None else 'backbone')


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        children = [child for child, _ in model.named_children()]
        raise ValueError(f'distances: {type(model).__name__} has no module {name!r}; it has {children}. Name one '
                         "of its modules with distances=[dict(module=...)]") from None


def _levels(output: Any) -> list[Tensor]:
    """The tensors of an output: one, one a level, or, of heads that return several lists, the first list's."""
    while isinstance(output, (list, tuple)) and output and isinstance(output[0], (list, tuple)):
        output = output[0]
    return list(output) if isinstance(output, (list, tuple)) else [output]


def _shapes(levels: Sequence[Tensor]) -> list[tuple]:
    return [tuple(getattr(level, 'shape', ())) for level in levels]


def _copied(data: Any) -> Any:
    """The same tensors in containers of their own: heads take apart what they are given (proposals, for instance)."""
    if isinstance(data, BaseDataElement):
        copied = data.clone()
        for name, value in data.items():
            if isinstance(value, BaseDataElement):
                setattr(copied, name, _copied(value))
        return copied
    if isinstance(data, dict):
        return {name: _copied(value) for name, value in data.items()}
    return type(data)(map(_copied, data)) if type(data) in (list, tuple) else data


def _scaled(value: Any, weight: float) -> Any:
    return [_scaled(part, weight) for part in value] if isinstance(value, (list, tuple)) else weight * value
