"""What a forward pass decided, image by image."""
from collections import OrderedDict
from functools import reduce
from typing import Optional, Union

import torch
from torch import Tensor

from .global_mean import global_mean

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
        self._open_rates: Optional[Tensor] = None

    @property
    def open_rates(self) -> Tensor:
        """(L,) open rates of :attr:`gates` over the global batch, with gradient; found once for all that ask."""
        if self._open_rates is None:
            self.average()
        assert self._open_rates is not None
        return self._open_rates

    def average(self, rows: Optional[Tensor] = None) -> Optional[Tensor]:
        """Finds the open rates, and the means of other values of the images, in one all-reduce.

        Args:
            rows: (K, N).

        Returns:
            (K,) their means over the global batch, without gradient.
        """
        gates = torch.stack(list(self.gates.values()))
        means = global_mean(gates if rows is None else torch.cat([gates, rows.to(gates.dtype)]))
        self._open_rates = means[:len(gates)]
        return None if rows is None else means[len(gates):].detach()

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
        """The same decisions, without gradients, in main memory; from a GPU in one copy."""
        return self.detach() if self.sizes.device.type == 'cpu' else self._in_one_copy()

    def _in_one_copy(self) -> 'Decisions':
        values = [self.sizes, *(value.detach() for group in _GROUPS for value in getattr(self, group).values()),
                  *([] if self.damage is None else [self.damage.detach()])]
        # Sizes in pixels are exact in float32, too.
        dtype = reduce(torch.promote_types, {value.dtype for value in values}, torch.float32)
        packed = torch.cat([value.flatten().to(dtype) for value in values]).cpu()
        parts = iter(packed.split([value.numel() for value in values]))
        return self._map(lambda value: next(parts).view(value.shape).to(value.dtype))  # in the same order

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
        decisions = self.cpu() if self._carries_graph() else self
        return dict(decisions.__dict__, _open_rates=None)

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
