"""The maps of a wired stage at evaluation on a GPU (DG-Net)."""
from itertools import groupby
from typing import Iterator, Optional, Sequence

import torch
from torch import Tensor

from ..functional.graph import aggregate
from ..functional.torch_versions import multiplies_in_tf32
from .conditional import select
from .live_maps import LiveMaps
from .node_maps import flatten, unflatten


class BatchedMaps(LiveMaps):
    """What :class:`mmdyn.layers.live_maps.LiveMaps` computes, in a few operations a node whatever the number of images.

    Outputs stand in one buffer at the places of their images, zeros where a node is dead, and what a node reads is a
    product over the nodes that are open for any image. The host reads one value a vertex: its incoming edges.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._index: Optional[Tensor] = None  # the images that a node is alive for, on the device, if they are not all
        self._ran: Optional[Tensor] = None  # the last node's output

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

    def read(self, j: int) -> Tensor:
        column = self.adjacency[:, :j, j]
        weights = column.tolist()
        self._images = [n for n, row in enumerate(weights) if any(row)]
        self._index = None
        if 0 < len(self._images) < len(weights):
            # Found on the device, too: a list would have to be copied there.
            is_alive = (column > 0).any(dim=1).to(torch.uint8)
            self._index = is_alive.argsort(descending=True, stable=True)[:len(self._images)]
        return self._sum(column, weights)

    def read_output(self) -> Tensor:
        self._images, self._index = list(range(len(self.adjacency))), None
        column = self.adjacency[:, :-1, -1]
        out = self._sum(column, column.tolist())
        # A view would keep the maps of all nodes as long as the stage's output is in use.
        return out.clone() if out.untyped_storage()._cdata == self._buffer.untyped_storage()._cdata else out

    def _sum(self, column: Tensor, weights: list[list[float]]) -> Tensor:
        if not self._images:
            return self._buffer.new_empty(0, *self.shape[1:])
        sources = [i for i, edges in enumerate(zip(*weights)) if any(edges)]
        # A product would round what is only handed on.
        if len(sources) == 1 and all(weights[n][sources[0]] == 1 for n in self._images) and \
                not multiplies_in_tf32(self._buffer):
            x = unflatten(self._buffer[sources[0]], self.shape, self.channels_last)
            x = x if self._index is None else select(x, self._index)
            return torch.relu(x) if self.rectify_inputs else x
        flat = self._buffer.new_empty(self._buffer.shape[1:])
        for number, (first, last) in enumerate(_spans(sources)):
            aggregate(self._buffer[first:last], column[:, first:last], flat, add=number > 0)
        return self._rectified(flat if self._index is None else flat.index_select(0, self._index))


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and one after the last of each run of neighbours: 0, 1, 4 -> (0, 2), (4, 5)."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1
