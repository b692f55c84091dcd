"""What a forward pass decided, image by image."""
from collections import OrderedDict
from typing import Optional, Union

import torch
from torch import Tensor

_GROUPS = ('gates', 'gate_logits', 'gate_features', 'adjacency')


class Decisions:
    """The decisions of one forward pass of a dynamic backbone over N images.

    They stay readable on ``backbone.decisions`` until the next forward. While training, the
    tensors carry gradients to the gates and routers.

    Attributes:
        sizes: (N, 2) valid height and width of each image in input pixels, padding left out.
        input_size: (H, W) of the padded input.
        gates: block name (``layer1.0``) -> (N,) decisions, 1 = the block runs (of a wired stage: unless no edge into it
            is open).
        gate_logits: block name -> (N,) logits of the open probability.
        gate_features: block name -> (N, channels), what confidence gates classified.
        adjacency: stage name (``layer1``) -> (N, n+1, n+1) edge weights, strictly upper
            triangular; entry (i, j) is the weight with which node j reads node i.
        target_rates: block name -> target rate; only blocks that have one.
        damage: (N,), how far the closed blocks have moved what the model makes of each image, where paired routes have
            measured it; else None.
    """

    def __init__(self,
                 sizes: Tensor,
                 input_size: tuple[int, int],
                 target_rates: Optional[dict[str, float]] = None) -> None:
        self.sizes = sizes
        self.input_size = input_size
        self.target_rates = target_rates or {}
        self.gates: OrderedDict[str, Tensor] = OrderedDict()
        self.gate_logits: OrderedDict[str, Tensor] = OrderedDict()
        self.gate_features: OrderedDict[str, Tensor] = OrderedDict()
        self.adjacency: OrderedDict[str, Tensor] = OrderedDict()
        self.damage: Optional[Tensor] = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sizes)

    def detach(self) -> 'Decisions':
        """The same decisions without their autograd graph."""
        return self._map(Tensor.detach)

    def __getitem__(self, index: Union[int, slice]) -> 'Decisions':
        """The decisions of one image (kept as a batch of one), or of a slice of the batch."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        return self._map(lambda value: value.detach()[rows])

    def cpu(self) -> 'Decisions':
        """The same decisions, without gradients, in main memory."""
        return self._map(lambda value: value.detach().cpu())

    def _map(self, function) -> 'Decisions':
        mapped = Decisions(function(self.sizes), self.input_size, self.target_rates)
        for group in _GROUPS:
            values = getattr(self, group)
            setattr(mapped, group, OrderedDict((k, function(v)) for k, v in values.items()))
        mapped.damage = None if self.damage is None else function(self.damage)
        return mapped

    def __deepcopy__(self, memo: dict) -> 'Decisions':
        # Copies of a model (EMA, mmengine's hooks) must not fail on tensors that carry a graph.
        return self._map(lambda value: value.detach().clone())

    def __getstate__(self) -> dict:
        return self.cpu().__dict__ if self._carries_graph() else dict(self.__dict__)

    def _carries_graph(self) -> bool:
        return any(v.requires_grad for group in _GROUPS for v in getattr(self, group).values())

    def __repr__(self) -> str:
        parts = [f'{len(self)} images']
        if self.gates:
            rate = torch.stack([g.detach().float().mean() for g in self.gates.values()]).mean()
            parts.append(f'{len(self.gates)} gates, {rate:.0%} open')
        if self.adjacency:
            parts.append(f'{len(self.adjacency)} wired stages')
        return f'Decisions({", ".join(parts)})'
