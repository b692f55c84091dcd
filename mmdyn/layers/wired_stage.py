"""Stages whose blocks are the nodes of a graph, wired image by image (DG-Net)."""
from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from ..functional.torch_versions import is_traced
from .batched_maps import BatchedMaps
from .extension import Extension
from .forward_hooks import is_observed
from .forward_pass import ForwardPass, require_pass
from .live_maps import LiveMaps
from .node_maps import NodeMaps
from .residual import Residual
from .router import Router
from .traced_maps import TracedMaps
from .wiring import Wiring
from .workspace import Workspace

NODES = ('branch', 'block')


class WiredBlock(Extension):
    """A node of a wired stage: a block's branch, or the whole block.

    Attributes:
        node: Its number in the stage.
        router: Weights its outgoing edges.
    """

    prefix = 'Wired'
    node: int
    router: Router

    def forward(self, x: Tensor, *, maps: Union[NodeMaps, LiveMaps, TracedMaps, None] = None) -> Tensor:
        """What the node reads -> its output; (M, C, H, W) of the M images that it is alive for.

        Args:
            x: Aggregated over the node's open edges.
            maps: Of its stage, in this forward.

        Raises:
            TypeError: Without the maps.
        """
        if maps is None:
            raise TypeError(f'the wired block {self.name_in_backbone!r} is called by its stage, with maps=; got none. '
                            'Call the backbone, or a static one with the same weights.')
        return maps.run_node(self.node, Residual(self), x)


class WiredStage(Extension):
    """Blocks that read weighted sums of the outputs of all blocks before them (DG-Net, section 3).

    The first block changes stride or width: it is the input node, always as a whole block.

    Attributes:
        whole_blocks: Whether a node is a whole block, or its branch alone. The edges of branches are their shortcuts,
            and their last activation moves onto what they read.
        column_bound: The most that a vertex may read in total, or None.
        workspace: Memory that is used again by the next forward, on CPUs.
    """

    prefix = 'Wired'
    whole_blocks: bool
    column_bound: Optional[float] = None
    workspace: Workspace

    def forward(self, x: Tensor, *, forward_pass: Optional[ForwardPass] = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Raises:
            TypeError: Without the pass that it is part of, which gets the stage's adjacency.
        """
        forward_pass = require_pass(forward_pass, f'the wired stage {self.name_in_backbone!r}')
        wiring = Wiring(len(self), x, forward_pass.threshold,
                        forward_pass.forced_adjacency(self.name_in_backbone, len(x)),
                        whole_blocks=self.whole_blocks, column_bound=self.column_bound)
        if forward_pass.skips and not torch.is_grad_enabled():
            out = self._run_live(x, forward_pass, wiring)
        else:
            out = self._run_all(x, forward_pass, wiring)
        forward_pass.keep_adjacency(self.name_in_backbone, wiring.adjacency())
        return out

    @property
    def rectify_inputs(self) -> bool:
        """Whether nodes read ReLU of the aggregated sum."""
        return Residual(self[1]).activation is not None and not self.whole_blocks

    def _run_all(self, x: Tensor, forward_pass: ForwardPass, wiring: Wiring) -> Tensor:
        """Nodes run for every image, and decisions multiply: training, and the reference at evaluation.

        In training that skips, branches with a gate run for the open images and for drawn ones.
        """
        options = dict(whole_blocks=self.whole_blocks, rectify_inputs=self.rectify_inputs)
        if is_traced():
            return self._run_nodes(x, forward_pass, wiring, TracedMaps(wiring.values, forward_pass, **options))
        maps = NodeMaps(len(self), wiring.values, forward_pass, with_cp=self[0].with_cp, observed=is_observed(self),
                        workspace=self.workspace, **options)
        # The compiler of PyTorch 2.1, which a stage stops, would take up parts of what follows again.
        return torch.compiler.disable(self._run_nodes)(x, forward_pass, wiring, maps)

    def _run_nodes(self, x: Tensor, forward_pass: ForwardPass, wiring: Wiring,
                   maps: Union[NodeMaps, TracedMaps]) -> Tensor:
        link: Optional[Tensor] = None
        averages: list[Tensor] = []
        for i, block in enumerate(self):
            y = block(x, maps=maps)
            averages.append(maps.pool(y))
            row = wiring.decide(i, block.router(averages[i]))
            if i == len(self) - 1:
                wiring.decide_output()
            else:
                self._decide_gate(i + 1, averages, forward_pass, wiring)
            if forward_pass.exploration is not None and i + 1 in wiring.gates and isinstance(maps, NodeMaps):
                maps.images[i + 1] = wiring.explore(i + 1, forward_pass.exploration)
            x, link = maps.read(i + 1, y, row, link, gate=wiring.weighing(i + 1), scale=wiring.scales.get(i + 1))
        return x

    def _run_live(self, x: Tensor, forward_pass: ForwardPass, wiring: Wiring) -> Tensor:
        """Nodes run for the images that they are alive for."""
        # What a hook keeps must not be overwritten by the next forward; and a compiler plans memory itself.
        kind = LiveMaps if x.device.type == 'cpu' else BatchedMaps
        maps = kind(len(self), wiring.values, whole_blocks=self.whole_blocks, rectify_inputs=self.rectify_inputs,
                    workspace=None if is_traced() or is_observed(self) else self.workspace)
        gated = any(hasattr(block, 'gate') for block in self)
        averages: list[Tensor] = []
        for i, block in enumerate(self):
            if i > 0:
                self._decide_gate(i, averages, forward_pass, wiring)
                x = maps.read(i, gate=wiring.gates.get(i), scale=wiring.scales.get(i))
            y, images = maps.keep(i, block(x, maps=maps))
            if gated:  # the gates ahead read averages of all images, so the routers may as well
                averages.append(_average(block.router, y, forward_pass, images, len(wiring.values)))
                weights = block.router(averages[i])
            else:
                weights = _route(block.router, y, forward_pass, images, len(wiring.values))
            wiring.decide(i, weights)
        wiring.decide_output()
        return maps.read_output(scale=wiring.scales.get(len(self)))

    def _decide_gate(self, i: int, averages: list[Tensor], forward_pass: ForwardPass, wiring: Wiring) -> None:
        """Lets the gate of node i, if it has one, decide from the average of what the node would read."""
        block = self[i]
        if hasattr(block, 'gate'):
            gate = forward_pass.decide_from(block.name_in_backbone, block.gate, wiring.average(i, averages))
            if gate is not None:
                wiring.gates[i] = gate


def _route(router: Router, y: Tensor, forward_pass: ForwardPass, images: Sequence[int], number: int) -> Tensor:
    """(N, edges) weights; what is dead has none, and its router does not run."""
    if not images:
        return router.bias.new_zeros(number, router.out_features)
    return _spread(router(forward_pass.pool(y, images)), images, number)


def _average(router: Router, y: Tensor, forward_pass: ForwardPass, images: Sequence[int], number: int) -> Tensor:
    """(N, C) averages of a node's output, 0 where it is dead."""
    if not images:
        return router.bias.new_zeros(number, router.in_features)
    return _spread(forward_pass.pool(y, images), images, number)


def _spread(values: Tensor, images: Sequence[int], number: int) -> Tensor:
    """(M, ...) of some images -> (N, ...), 0 for the others."""
    if len(images) == number:
        return values
    return values.new_zeros(number, *values.shape[1:]).index_copy(0, torch.tensor(images, device=values.device), values)
