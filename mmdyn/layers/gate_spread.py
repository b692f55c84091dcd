"""Whether gates tell images apart: how far their open probabilities spread over images."""
from collections.abc import Iterable, Mapping
from typing import Optional

import torch
from torch import Tensor

from .global_mean import global_mean

# A gate whose open probability spreads by less than this over the images decides by differences that mean nothing.
# Trained gates that were constants spread by 0.0003 to 0.0044.
LEAST_SPREAD = 0.01


class GateSpread:
    """The standard deviation of each gate's open probability over images that met the same network.

    A training changes the network from batch to batch, and a gate's probability for every image with it. So each batch
    is compared with its own mean, and the squares of all batches are summed: on the device, nothing is read.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._squares: Optional[Tensor] = None
        self._freedom = 0

    def add(self, gate_logits: Mapping[str, Tensor]) -> None:
        """Adds a batch.

        Args:
            gate_logits: Block name -> (N,) logits of its gate's open probability, as in
                :attr:`mmdyn.layers.decisions.Decisions.gate_logits`.
        """
        if not gate_logits:
            return
        self._names = list(gate_logits)
        probabilities = torch.stack(list(gate_logits.values())).detach().sigmoid()
        squares = (probabilities - probabilities.mean(dim=1, keepdim=True)).square().sum(dim=1)
        self._squares = squares if self._squares is None else self._squares + squares
        self._freedom += probabilities.shape[1] - 1

    def take(self, *, all_ranks: bool = False) -> dict[str, float]:
        """Reads the spreads since the last call, and starts anew.

        Args:
            all_ranks: Whether to join the batches of all ranks, each of which then has to call it.

        Returns:
            Block name -> spread; empty where no batch held two images.
        """
        if self._squares is None:
            return {}
        sums = torch.cat([self._squares, torch.full_like(self._squares[:1], self._freedom)])
        *squares, freedom = (global_mean(sums[:, None]) if all_ranks else sums).tolist()
        self._squares, self._freedom = None, 0
        return {name: (square / freedom)**0.5 for name, square in zip(self._names, squares)} if freedom else {}


def constant_gates(spreads: Mapping[str, float]) -> list[str]:
    """The blocks whose gates say about the same of every image."""
    return [name for name, spread in spreads.items() if spread < LEAST_SPREAD]


def say_constant(blocks: Iterable[str]) -> str:
    """What it means, in words, that the gates of these blocks are constant."""
    return (f'The decisions of {", ".join(blocks)} hardly depend on the image: the open probabilities that their gates '
            f'give spread by less than {LEAST_SPREAD} (standard deviation over the images).')
