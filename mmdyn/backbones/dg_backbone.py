"""Wired stages on top of one of MMDetection's backbones (DG-Net)."""
from typing import Iterator, Mapping, Optional, Union

import torch
from torch import Tensor, nn

from ..functional.graph import chain_adjacency, check_adjacency, complete_adjacency
from ..layers.extension import extend
from ..layers.forward_pass import Forced, ForwardPass
from ..layers.gate import check_number
from ..layers.residual import Residual
from ..layers.router import Router, edge_logit
from ..layers.wired_stage import NODES, WiredBlock, WiredStage
from ..layers.workspace import Workspace
from .dynamic_backbone import DynamicBackbone

INITS = ('complete', 'static')


class DGBackbone(DynamicBackbone):
    """Mixin: the blocks of each stage become the nodes of a complete graph, wired image by image.

    Node j reads ``sum_i A_ij y_i`` over the outputs of all earlier nodes of its stage (DG-Net,
    section 3). The blocks, their parameter names and their initialisation stay the parent's; the
    router that weights a node's outgoing edges is the block's child ``router``. A stage of one
    block stays as it is.

    Args:
        node: ``'branch'``: a node is a block's residual branch, and the edges are its shortcuts.
            ``'block'``: a node is a whole block, for fine-tuning a static checkpoint.
        edge_scale: The largest weight of an edge. With 2, a router's logit 0 is exactly weight 1,
            so that the complete graph of branches is the sum that a residual network computes, no
            smaller and no larger, and its checkpoints fit.
        threshold: An edge is open above it: a number in [0, edge_scale); ``'learnable'``, or
            ``dict(init=number)`` for a learnable one that starts there. None: 0.1 * edge_scale.
        init: ``'complete'``: every edge open; at logit 0 with ``node='branch'``, and so that each
            node reads about the mean of its sources with ``node='block'`` (a sum would double at
            each node; the threshold is the least that an open edge can weigh, so stages of more
            than 1 / threshold blocks need a lower one to stay bounded). ``'static'``: what the
            static network computes: with ``node='block'`` the chain at weight 1 and all other
            edges just below the threshold, with ``node='branch'`` all edges at weight 1 (linear
            blocks only). None: ``'complete'`` for branches,
            ``'static'`` for blocks.
        execution: At evaluation, ``'skip'`` what is closed, or ``'mask'`` it (the reference).
        **kwargs: The parent's.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    def __init__(self,
                 *args,
                 node: str = 'branch',
                 edge_scale: float = 2.0,
                 threshold: Union[None, float, str, dict] = None,
                 init: Optional[str] = None,
                 execution: str = 'skip',
                 **kwargs) -> None:
        if node not in NODES:
            raise ValueError(f'node must be one of {NODES}, got {node!r}')
        init = init or ('complete' if node == 'branch' else 'static')
        if init not in INITS:
            raise ValueError(f'init must be one of {INITS} or None, got {init!r}')
        if not check_number('edge_scale', edge_scale, 0.0, 1e4):
            raise ValueError('edge_scale must be above 0, got 0')
        super().__init__(*args, **kwargs)
        self.node = node
        self.edge_scale = float(edge_scale)
        self.execution = execution
        self._set_up_threshold(threshold)
        workspace = Workspace()
        for name, stage in self.stages():
            rows = self._start(name, stage, init)
            for i, block in enumerate(stage):
                channels = Residual(stage[1]).in_channels
                block.router = Router(channels, rows[i, i + 1:].tolist(), scale=self.edge_scale)
                block.node = i
                extend(block, WiredBlock, f'{name}.{i}')
            stage.whole_blocks = node == 'block'
            stage.workspace = workspace
            extend(stage, WiredStage, name)

    def stages(self) -> Iterator[tuple[str, nn.Sequential]]:
        """Name (``layer1``) and blocks of every wired stage, in the order they run."""
        for name in self.stage_names:
            layer = getattr(self, name)
            if isinstance(layer, nn.Sequential) and len(layer) > 1:
                yield name, layer

    def deciders(self) -> Iterator[nn.Module]:
        for _, stage in self.stages():
            for block in stage:
                if hasattr(block, 'router'):
                    yield block.router

    @property
    def threshold(self) -> float:
        """An edge is open above it; it may be moved at any time."""
        if self.threshold_logit is None:
            return self._threshold
        return self.edge_scale * torch.sigmoid(self.threshold_logit.detach()).item()

    @threshold.setter
    def threshold(self, value: float) -> None:
        value = self._check_threshold(value, learnable=self.threshold_logit is not None)
        if self.threshold_logit is None:
            self._threshold = value
        else:
            with torch.no_grad():
                self.threshold_logit.fill_(edge_logit(value, self.edge_scale))

    def _set_up_threshold(self, threshold: Union[None, float, str, dict]) -> None:
        default = 0.1 * self.edge_scale
        learnable = threshold == 'learnable' or isinstance(threshold, Mapping)
        if isinstance(threshold, Mapping):
            if set(threshold) - {'init', 'learnable'} or not threshold.get('learnable', True):
                raise ValueError('a learnable threshold is dict(init=number), got '
                                 f'{dict(threshold)}')
            threshold = threshold.get('init', default)
        elif threshold is None or learnable:
            threshold = default
        threshold = self._check_threshold(threshold, learnable=learnable)
        self._threshold = threshold
        if learnable:
            threshold = torch.tensor(edge_logit(threshold, self.edge_scale))
            self.threshold_logit = nn.Parameter(threshold)
        else:
            self.register_parameter('threshold_logit', None)

    def _check_threshold(self, threshold: object, *, learnable: bool) -> float:
        threshold = check_number('threshold', threshold, 0.0, self.edge_scale)
        if learnable and not threshold:
            raise ValueError('a learnable threshold must be above 0, got 0')
        if threshold == self.edge_scale:
            raise ValueError(f'threshold must lie in [0, edge_scale) = [0, {self.edge_scale}), '
                             f'got {threshold}')
        return threshold

    def _start(self, name: str, stage: nn.Sequential, init: str) -> Tensor:
        """(n, n+1) edge weights that the routers of a stage start with."""
        nodes, whole = len(stage), self.node == 'block'
        if init == 'complete' and not whole:
            return torch.full((nodes, nodes + 1), self.edge_scale / 2, dtype=torch.float64)
        if init == 'complete':
            # Of more than 1 / threshold sources, the mean would weigh each below the threshold.
            lowest = min(1.05 * self._threshold, 0.5 * (self._threshold + self.edge_scale))
            highest = 0.95 * self.edge_scale
            mean = complete_adjacency(nodes, mean=True)[:-1].double()
            return mean.clamp(max=highest).clamp(min=lowest)
        if not whole and Residual(stage[1]).activation is not None:
            raise ValueError(
                "init='static' with node='branch' needs blocks without an activation after their "
                f'sum (MobileNetV2), but those of {name} have one, which moves; use node=\'block\'')
        if not (self.edge_scale > 1 > self._threshold):
            raise ValueError("init='static' has edges of weight 1, so it needs edge_scale above 1 "
                             f'and threshold below 1, got {self.edge_scale} and {self._threshold}')
        if not whole:
            return torch.ones(nodes, nodes + 1, dtype=torch.float64)
        if not self._threshold:
            raise ValueError("init='static' with node='block' starts with edges below the "
                             'threshold, so it needs one above 0, got 0')
        chain = chain_adjacency(nodes)[:-1].double()
        return torch.where(chain > 0, chain, 0.95 * self._threshold)

    def force_decisions(self, decisions: Forced) -> None:
        """Fixes the adjacency, for study and tests; training keeps the routers' gradient.

        Args:
            decisions: ``'complete'`` (every edge open; at weight 1 with ``node='branch'``, and
                each node reads the mean of its sources with ``node='block'``), ``'chain'`` (the
                edges i -> i+1 at weight 1), a mapping from stage name to (n+1, n+1) or
                (N, n+1, n+1) matrices (stages not named decide for themselves), or None to let
                the routers decide again.

        Raises:
            ValueError: For anything else, a stage that does not exist or is not wired, or a matrix
                that :func:`mmdyn.functional.graph.check_adjacency` refuses.
        """
        sizes = {name: len(stage) for name, stage in self.stages()}
        if decisions is None:
            decisions = {}
        elif isinstance(decisions, str) and decisions == 'complete':
            mean = self.node == 'block'
            decisions = {name: complete_adjacency(n, mean=mean) for name, n in sizes.items()}
        elif isinstance(decisions, str) and decisions == 'chain':
            decisions = {name: chain_adjacency(n) for name, n in sizes.items()}
        elif not isinstance(decisions, Mapping):
            raise ValueError("decisions must be 'complete', 'chain', a mapping from stage name to "
                             f'(n+1, n+1) matrices, or None, got {decisions!r}')
        for name in decisions:
            if name not in sizes:
                raise ValueError(f'no wired stage {name!r}; the wired stages are {list(sizes)}')
        self._forced = {name: check_adjacency(matrix, sizes[name], name)
                        for name, matrix in decisions.items()}

    def begin_forward(self, images: Tensor) -> ForwardPass:
        forward_pass = super().begin_forward(images)
        if self.threshold_logit is None:
            forward_pass.threshold = self._threshold
        else:
            forward_pass.threshold = self.edge_scale * torch.sigmoid(self.threshold_logit)
        return forward_pass
