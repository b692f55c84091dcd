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
        workspace: Memory that is used again by the next forward, on CPUs.
    """

    prefix = 'Wired'
    whole_blocks: bool
    workspace: Workspace

    def forward(self, x: Tensor, *, forward_pass: Optional[ForwardPass] = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Raises:
            TypeError: Without the pass that it is part of, which gets the stage's adjacency.
        """
        forward_pass = require_pass(forward_pass, f'the wired stage {self.name_in_backbone!r}')
        wiring = Wiring(len(self), x, forward_pass.threshold,
                        forward_pass.forced_adjacency(self.name_in_backbone, len(x)))
        if forward_pass.skips and not torch.is_grad_enabled():
            out = self._run_live(x, forward_pass, wiring)
        else:
            out = self._run_all(x, forward_pass, wiring)
        forward_pass.decisions.adjacency[self.name_in_backbone] = wiring.adjacency()
        return out

    @property
    def rectify_inputs(self) -> bool:
        """Whether nodes read ReLU of the aggregated sum."""
        return Residual(self[1]).activation is not None and not self.whole_blocks

    def _run_all(self, x: Tensor, forward_pass: ForwardPass, wiring: Wiring) -> Tensor:
        """Every node runs for every image, and liveness multiplies: training, and the reference at evaluation."""
        options = dict(whole_blocks=self.whole_blocks, rectify_inputs=self.rectify_inputs)
        if is_traced():
            return self._run_nodes(x, wiring, TracedMaps(wiring.values, forward_pass, **options))
        maps = NodeMaps(len(self), wiring.values, forward_pass, with_cp=self[0].with_cp, observed=is_observed(self),
                        workspace=self.workspace, **options)
        # The compiler of PyTorch 2.1, which a stage stops, would take up parts of what follows again.
        return torch.compiler.disable(self._run_nodes)(x, wiring, maps)

    def _run_nodes(self, x: Tensor, wiring: Wiring, maps: Union[NodeMaps, TracedMaps]) -> Tensor:
        link: Optional[Tensor] = None
        for i, block in enumerate(self):
            y = block(x, maps=maps)
            row = wiring.decide(i, block.router(maps.pool(y)))
            if i == len(self) - 1:
                wiring.decide_output()
            x, link = maps.read(i + 1, y, row, link)
        return x

    def _run_live(self, x: Tensor, forward_pass: ForwardPass, wiring: Wiring) -> Tensor:
        """Nodes run for the images that they are alive for."""
        # What a hook keeps must not be overwritten by the next forward.
        kind = LiveMaps if x.device.type == 'cpu' else BatchedMaps
        maps = kind(len(self), wiring.values, whole_blocks=self.whole_blocks, rectify_inputs=self.rectify_inputs,
                    workspace=None if is_observed(self) else self.workspace)
        for i, block in enumerate(self):
            if i > 0:
                x = maps.read(i)
            y = block(x, maps=maps)
            wiring.decide(i, self._route(block.router, *maps.keep(i, y), forward_pass, len(wiring.values)))
        wiring.decide_output()
        return maps.read_output()

    def _route(self, router: Router, y: Tensor, images: Sequence[int], forward_pass: ForwardPass, number: int) -> Tensor:
        """(N, edges) weights; what is dead has none."""
        if len(images) == number:
            return router(forward_pass.pool(y))
        weights = router.weight.new_zeros(number, router.out_features)
        if images:
            index = torch.tensor(images, device=y.device)
            weights.index_copy_(0, index, router(forward_pass.pool(y, images)).to(weights.dtype))
        return weights
