"""The maps of a wired stage at evaluation on a GPU (DG-Net)."""
from itertools import groupby
from typing import Iterator, Optional, Sequence

import torch
from torch import Tensor

from ..functional.graph import aggregate
from ..functional.torch_versions import is_traced, multiplies_in_tf32
from .conditional import select
from .live_maps import LiveMaps, scaled
from .flat_maps import flatten, unflatten
from .residual import Residual


class BatchedMaps(LiveMaps):
    """What :class:`mmdyn.layers.live_maps.LiveMaps` computes, in a few operations a node whatever the number of images.

    Outputs stand in one buffer at the places of their images, zeros where a node is dead, and what a node reads is a
    product over the nodes that are open for any image. The host reads one value a vertex: its incoming edges, and its
    gate. What follows from them on the device is found there once more, since a list would have to be copied.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._index: Optional[Tensor] = None  # the images that a node is alive for, if they are not all
        self._rows_that_run: Optional[Tensor] = None  # of these, the ones whose branch runs, if they are not all
        self._ran: Optional[Tensor] = None  # the last node's output

    def _run_some(self, i: int, residual: Residual, x: Tensor) -> Tensor:
        y = self._allocate(i, x, len(x))
        y.copy_(x)
        if any(self._runs):
            part = select(x, self._rows_that_run)
            y.index_copy_(0, self._rows_that_run, part + residual.branch(part).to(y.dtype))
        return residual.activate(y)

    def _allocate(self, i: int, like: Tensor, number: int) -> Tensor:
        if self._buffer is None:
            self._make_buffer(like, self.nodes)
        whole = number == len(self.adjacency)
        flat = self._buffer[i] if whole else self._buffer.new_empty(number, self._buffer.shape[2])
        self._ran = unflatten(flat, self.shape, self.channels_last)
        return self._ran

    def keep(self, i: int, y: Tensor) -> tuple[Tensor, Sequence[int]]:
        if not self._images:
            return y, self._images  # dead for all: nobody reads it
        if self._index is not None:
            self._buffer[i].zero_().index_copy_(0, self._index, flatten(y, self.channels_last))
        elif y is not self._ran:
            self._buffer = self._buffer.clone()  # a hook may have kept what the node has computed
            self._buffer[i].copy_(flatten(y, self.channels_last))
        return unflatten(self._buffer[i], self.shape, self.channels_last), range(len(self.adjacency))

    def _find_images(self, columns: Tensor, gate: Optional[Tensor]) -> list[list[float]]:
        weights = super()._find_images(columns, gate)
        self._index = self._rows_that_run = None
        if 0 < len(self._images) < len(weights):
            is_alive = (columns > 0).any(dim=1)
            if gate is not None and not self.whole_blocks:
                is_alive = is_alive & (gate > 0)
            self._index = _first_true(is_alive, len(self._images))
        if not all(self._runs):
            runs = gate if self._index is None else gate[self._index]
            self._rows_that_run = _first_true(runs > 0, sum(self._runs))
        return weights

    def read_output(self, *, scale: Optional[Tensor]) -> Tensor:
        columns = scaled(self.adjacency[:, :-1, -1], scale)
        self._images, self._index = list(range(len(columns))), None
        out = self._sum(columns, columns.tolist())
        # A view would keep the maps of all nodes as long as the stage's output is in use.
        is_view = is_traced() or out.untyped_storage()._cdata == self._buffer.untyped_storage()._cdata
        return out.clone() if is_view else out

    def _sum(self, columns: Tensor, weights: list[list[float]]) -> Tensor:
        if not self._images:
            return self._buffer.new_empty(0, *self.shape[1:])
        read = [weights[n] for n in self._images]
        sources = [i for i, edges in enumerate(zip(*read)) if any(edges)]
        # A product would round what is only handed on.
        if len(sources) == 1 and all(row[sources[0]] == 1 for row in read) and \
                not multiplies_in_tf32(self._buffer):
            x = unflatten(self._buffer[sources[0]], self.shape, self.channels_last)
            x = x if self._index is None else select(x, self._index)
            return torch.relu(x) if self.rectify_inputs else x
        flat = self._buffer.new_empty(self._buffer.shape[1:])
        for number, (first, last) in enumerate(_spans(sources)):
            aggregate(self._buffer[first:last], columns[:, first:last], flat, add=number > 0)
        return self._rectified(flat if self._index is None else flat.index_select(0, self._index))


def _first_true(flags: Tensor, number: int) -> Tensor:
    """The indices of the true ones, in ascending order, of which the host knows the number."""
    return flags.to(torch.uint8).argsort(descending=True, stable=True)[:number]


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and one after the last of each run of neighbours: 0, 1, 4 -> (0, 2), (4, 5)."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1
