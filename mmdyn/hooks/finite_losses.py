"""Finds losses that are not finite, once for many iterations and on all ranks together."""
import math
from typing import Any

import torch
from mmengine import dist
from torch import Tensor


class FiniteLosses:
    """Keeps the losses of the last iterations where they are, and reads them all at once.

    Read in each iteration, every loss would make the host wait for a GPU; and a rank that stopped alone would leave the
    others waiting for it.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, iteration: int, outputs: dict[str, Any]) -> None:
        """Keeps what a training step has returned: its entries whose names contain ``loss``."""
        losses = {name: torch.as_tensor(value).detach() for name, value in outputs.items() if 'loss' in name}
        self._kept.append((iteration, losses))

    @property
    def are_at_hand(self) -> bool:
        """Whether it costs nothing to look at the last ones: one process, on a CPU."""
        return dist.get_world_size() == 1 and all(loss.device.type == 'cpu' for loss in self._kept[-1][1].values())

    def check(self, work_dir: str) -> None:
        """Looks at the losses since the last call.

        Raises:
            FloatingPointError: On every rank, naming the first iteration with a loss that is not finite.
        """
        kept, self._kept = self._kept, []
        if not kept:
            return
        # Zeros; but of what is not finite, NaN, which is still NaN in the sum over all ranks.
        zeros = torch.stack([sum((0 * loss.float() for loss in losses.values()), torch.zeros(()))
                             for _, losses in kept])
        dist.all_reduce(zeros)
        for (iteration, losses), zero in zip(kept, zeros.tolist()):
            if math.isnan(zero):
                bad = [f'{name} is {value}' for name, loss in losses.items() if not math.isfinite(value := loss.item())]
                raise FloatingPointError(
                    f'Training stopped because of iteration {iteration}: '
                    f'{", ".join(bad) or "a loss of another process is not finite"}. The checkpoints written '
                    f'so far in {work_dir} are untouched; resume from the last one with a lower '
                    'learning rate, gradient clipping or another seed.')
