"""Runs a model over images: what its backbone decides and costs, its loss, and both along given routes."""
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount
from ..layers.decisions import Decisions
from .budget_knob import Knob

# What the backbone's `force_decisions` takes, for N images: block -> (N,), or wired stage -> (N, n+1, n+1).
Routes = Mapping[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What N images have shown.

    Attributes:
        share: Their cost, of the dense cost.
        routes: The way that each image took.
        turns: Values of the knob at which a decision would turn, ascending.
        loss: Of the whole model, mean over the images; NaN where the backbone ran alone.
    """
    share: float
    routes: Routes
    turns: np.ndarray
    loss: float


class RoutedImages:
    """A model and the images that it runs, always in the same order.

    Args:
        model: The whole detector or classifier, with a dynamic backbone.
        knob: Of the backbone.
        batches: Batches of a dataloader, or the loader itself.
        seed: Of what a loss draws, such as the proposals that a detector samples: the same in every run.
    """

    def __init__(self, model: nn.Module, knob: Knob, batches: Iterable[Any], seed: int = 0) -> None:
        self.model, self.knob, self.batches, self.seed = model, knob, batches, seed
        self.account = CostAccount(model.backbone)

    @torch.no_grad()
    def run(self, *, with_loss: bool = False) -> Outcome:
        """Runs the images as evaluation does: the backbone alone, or the whole model for its loss."""
        self.model.eval()
        backbone, decided, costs, losses = self.model.backbone, [], [], []
        for batch in self.batches:
            data = self.model.data_preprocessor(batch, False)
            if with_loss:
                losses.append(float(seeded_loss(self.model, data, self.seed)))
            else:
                backbone(data['inputs'])
            decided.append(backbone.decisions.cpu())
            costs += self.account.images(decided[-1])
        sizes = [len(decisions) for decisions in decided]
        routes = [_routes(backbone, decisions) for decisions in decided]
        turns = torch.cat([self.knob.turns(decisions) for decisions in decided])
        return Outcome(
            share=sum(cost.macs for cost in costs) / sum(cost.dense_macs for cost in costs),
            routes={name: torch.cat([own[name] for own in routes]) for name in routes[0]},
            turns=turns.unique().numpy(),
            loss=float(np.average(losses, weights=sizes)) if with_loss else float('nan'))


def seeded_loss(model: nn.Module, data: Mapping[str, Any], seed: int) -> Tensor:
    """The model's loss of a preprocessed batch, with what is drawn on the way drawn from a seed."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # some of MMDetection's samplers
    total, _ = model.parse_losses(model(**data, mode='loss'))
    return total


def _routes(backbone: DynamicBackbone, decisions: Decisions) -> dict[str, Tensor]:
    return {name: decisions.gates[name] for name in backbone.gates()} | decisions.adjacency


def deal(routes: Routes, seed: int) -> Routes:
    """The same routes, dealt to the images at random: each gate is open as often, and the costs add up to the same."""
    images = len(next(iter(routes.values())))
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return {name: decided[order] for name, decided in routes.items()}


@contextmanager
def forced(backbone: DynamicBackbone, routes: Routes) -> Iterator[None]:
    """While open, images take these routes, in the order in which they come; after the last, the first comes again."""
    images, start = len(next(iter(routes.values()))), 0

    def force(_, inputs: tuple) -> None:
        nonlocal start
        rows = [(start + n) % images for n in range(len(inputs[0]))]
        start += len(rows)
        backbone.force_decisions({name: decided[rows] for name, decided in routes.items()})

    handle = backbone.register_forward_pre_hook(force)
    try:
        yield
    finally:
        handle.remove()
        backbone.force_decisions(None)
