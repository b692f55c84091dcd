"""The inference graph of one image as plain data: what is drawn, and what tests compare."""
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount, ImageCost, blocks_run, own_sizes


@dataclass(frozen=True)
class Block:
    """A residual block of a ConvNet-AIG, or a node of a wired stage.

    Attributes:
        name: Module name, ``layer1.0``.
        ran: Whether it ran for the image.
        optional: Whether it could have been left out; a block without a gate could not.
        gmacs: 1e9 multiply-adds, at the image's own size, that it costs when it runs and saves
            when it does not; 0 for one that is not optional.
    """

    name: str
    ran: bool
    optional: bool
    gmacs: float


@dataclass(frozen=True)
class Stage:
    """The blocks of one stage in the order they run.

    Attributes:
        name: Module name, ``layer1``.
        blocks: At least one.
        adjacency: Of a wired stage of n blocks, (n+1, n+1) edge weights, the output last.
        edge_scale: The largest weight that an edge can have.
    """

    name: str
    blocks: tuple[Block, ...]
    adjacency: Optional[np.ndarray] = None
    edge_scale: float = 1.0


@dataclass(frozen=True)
class InferenceGraph:
    """What one image ran.

    Attributes:
        stages: In the order they run.
        cost: In the backbone, as :class:`mmdyn.cost.CostAccount` gives it.
    """

    stages: tuple[Stage, ...]
    cost: ImageCost

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Of all stages."""
        return tuple(block for stage in self.stages for block in stage.blocks)


@torch.no_grad()
def read_graph(backbone: DynamicBackbone,
               image: int = 0,
               *,
               account: Optional[CostAccount] = None) -> InferenceGraph:
    """Reads the inference graph of one image of the backbone's last forward.

    Args:
        backbone: A ConvNet-AIG or DG-Net.
        image: Index in the batch.
        account: The backbone's cost account, if there is one; it remembers what it counted.

    Raises:
        RuntimeError: If the backbone has not run.
        IndexError: If the last forward had fewer images.
    """
    if backbone.decisions is None:
        raise RuntimeError(f'{type(backbone).__name__} has decided nothing yet: run it on an '
                           'image first')
    if not 0 <= image < len(backbone.decisions):
        raise IndexError(f'expected the index of one of {len(backbone.decisions)} images, '
                         f'got {image}')
    account = account or CostAccount(backbone)
    decisions = backbone.decisions[image].cpu()
    macs = account.conditional_macs(own_sizes(decisions)[0])
    ran = {name: bool(value[0] > 0) for name, value in blocks_run(decisions).items()}
    cost, = account.images(decisions)
    stages = []
    for stage, names in _block_names(backbone).items():
        blocks = tuple(Block(name, ran.get(name, True), name in ran, macs.get(name, 0) / 1e9)
                       for name in names)
        if stage in decisions.adjacency:
            adjacency = decisions.adjacency[stage][0].float().numpy()
            stages.append(Stage(stage, blocks, adjacency, backbone.edge_scale))
        else:
            stages.append(Stage(stage, blocks))
    return InferenceGraph(tuple(stages), cost)


def _block_names(backbone: DynamicBackbone) -> dict[str, list[str]]:
    """Stage name -> names of its blocks, those without a gate included."""
    names: dict[str, list[str]] = {}
    for name, _ in backbone.blocks():
        names.setdefault(name.rpartition('.')[0], []).append(name)
    return names
