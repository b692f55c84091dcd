"""Wired stages on top of one of MMDetection's backbones (DG-Net)."""
from typing import Any, Iterator, Mapping, Optional, Union

import torch
from torch import Tensor, nn

from ..functional.graph import chain_adjacency, check_adjacency, complete_adjacency
from ..layers.extension import extend
from ..layers.forward_pass import Forced, ForwardPass
from ..layers.gate import check_number
from ..layers.residual import Residual
from ..layers.router import build_router
from ..layers.wired_stage import NODES, WiredBlock, WiredStage
from ..layers.workspace import Workspace
from .edge_threshold import EdgeThreshold
from .gate_options import forced_values
from .node_gates import add_node_gates, check_without_gates
from .start_edges import start_edges
from .target_rates import TargetRates
from .train_execution import TrainExecution

INITS = ('complete', 'static')


class DGBackbone(EdgeThreshold, TrainExecution):
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
        router: How a node's edges are weighted: ``'linear'``, from the averages of its output;
            ``'bias'``, by constants, the same for every image, the control that "dynamic" has to
            beat; or the options of :class:`mmdyn.layers.router.Router`, ``dict(norm='LN',
            dynamic=1.0)``, which holds what images change within bounds.
        column_bound: With ``node='block'``: the most that a vertex may read in total; where its
            edges weigh more, all of them are scaled down. None: no bound.
        node_gates: Whether each node but the first of a stage has a gate that decides, image by
            image, whether it runs. A branch that does not run adds nothing, and a whole block
            hands on what it reads, as a residual block of a ConvNet-AIG does. A gate reads the
            average of what its node would read.
        target_rates: Of gates, the wanted rates: None, a number for all, or a list with one entry
            a block of the wired stages, where 1 means no gate and None a gate without a loss.
        gate, policy, open_probability: Of gates, as in
            :class:`mmdyn.backbones.aig_backbone.AIGBackbone`; not confidence gates.
        execution: At evaluation, ``'skip'`` what is closed, or ``'mask'`` it (the reference).
        train_execution, exploration: As in :class:`mmdyn.backbones.aig_backbone.AIGBackbone`. ``'skip'`` needs
            ``node_gates=True``: by edges alone hardly ever a node dies while training.
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
                 router: Union[str, dict] = 'linear',
                 column_bound: Optional[float] = None,
                 node_gates: bool = False,
                 target_rates: TargetRates = None,
                 gate: Optional[dict] = None,
                 policy: str = 'argmax',
                 open_probability: Union[float, str] = 0.5,
                 execution: str = 'skip',
                 train_execution: str = 'mask',
                 exploration: float = 0.1,
                 **kwargs) -> None:
        if node not in NODES:
            raise ValueError(f'node must be one of {NODES}, got {node!r}')
        init = init or ('complete' if node == 'branch' else 'static')
        if init not in INITS:
            raise ValueError(f'init must be one of {INITS} or None, got {init!r}')
        super().__init__(*args, **kwargs)
        self.node = node
        self.edge_scale = check_number('edge_scale', edge_scale, 0.0, 1e4, above=True)
        self.execution = execution
        self._set_up_threshold(threshold)
        self._wire(init, router, self._check_column_bound(column_bound, init))
        self._add_gates(node_gates, target_rates=target_rates, gate=gate, policy=policy, open_probability=open_probability)
        self._set_up_train_execution(train_execution, exploration)

    def _wire(self, init: str, router: Union[str, dict], column_bound: Optional[float]) -> None:
        # Built even where no stage is wired: a wrong option must not pass.
        build_router(router, 1, [self.edge_scale / 2], scale=self.edge_scale)
        workspace = Workspace()
        for name, stage in self.stages():
            rows, channels = self._start(name, stage, init), Residual(stage[1]).in_channels
            for i, block in enumerate(stage):
                block.router = build_router(router, channels, rows[i, i + 1:].tolist(), scale=self.edge_scale)
                block.node = i
                extend(block, WiredBlock, f'{name}.{i}')
            stage.whole_blocks = self.node == 'block'
            stage.column_bound = column_bound
            stage.workspace = workspace
            extend(stage, WiredStage, name)

    def _add_gates(self, node_gates: bool, **options: Any) -> None:
        if node_gates is True:
            self._target_rates = add_node_gates(dict(self.blocks()), depth=getattr(self, 'depth', None), **options)
        elif node_gates is not False:
            raise TypeError(f'node_gates must be True or False, got {node_gates!r}')
        else:
            check_without_gates(**options)

    def _check_column_bound(self, bound: Optional[float], init: str) -> Optional[float]:
        if bound is None:
            return None
        if self.node != 'block':
            raise ValueError("column_bound is for node='block'; branches are summed as in a residual network: expected "
                             f'None, got {bound!r}')
        bound = check_number('column_bound', bound, 0.0)
        if not bound or (init == 'static' and bound < 1):
            raise ValueError("column_bound must be above 0, and at least 1 with init='static', whose edges weigh 1, "
                             f'got {bound}')
        return bound

    def stages(self) -> Iterator[tuple[str, nn.Sequential]]:
        """Name (``layer1``) and blocks of every wired stage, in the order they run."""
        for name in self.stage_names:
            layer = getattr(self, name)
            if isinstance(layer, nn.Sequential) and len(layer) > 1:
                yield name, layer

    def blocks(self) -> Iterator[tuple[str, nn.Module]]:
        for name, stage in self.stages():
            for i, block in enumerate(stage):
                yield f'{name}.{i}', block

    def blocks_left_out(self) -> dict[str, nn.Module]:
        blocks = {name: block for name, block in self.blocks() if hasattr(block, 'gate')}
        if not blocks:
            raise ValueError("train_execution='skip' leaves out nodes whose gate is shut, and edges alone hardly ever leave "
                             'one without input while training: expected node_gates=True with target_rates below 1, '
                             'or train_execution=\'mask\'; no node of this backbone has a gate')
        return blocks

    def _start(self, name: str, stage: nn.Sequential, init: str) -> Tensor:
        """(n, n+1) edge weights that the routers of a stage start with."""
        whole = self.node == 'block'
        if init == 'static' and not whole and Residual(stage[1]).activation is not None:
            raise ValueError(
                "init='static' with node='branch' needs blocks without an activation after their "
                f'sum (MobileNetV2), but those of {name} have one, which moves; use node=\'block\'')
        return start_edges(len(stage), static=init == 'static', whole_blocks=whole, edge_scale=self.edge_scale,
                           threshold=self._threshold)

    def force_decisions(self, decisions: Forced) -> None:
        """Fixes the adjacency and the gates, for study and tests; training keeps their gradient.

        Args:
            decisions: ``'complete'`` (every edge and gate open; at weight 1 with
                ``node='branch'``, and each node reads the mean of its sources with
                ``node='block'``), ``'chain'`` (the edges i -> i+1 at weight 1, gates open),
                ``'open'`` or ``'closed'`` (the gates alone), a mapping from stage name to
                (n+1, n+1) or (N, n+1, n+1) matrices and from node name (``layer1.1``) to (N,)
                zeros and ones (what is not named decides for itself), or None to let all decide
                again.

        Raises:
            ValueError: For anything else, a stage that does not exist or is not wired, a node
                without a gate, or a matrix that
                :func:`mmdyn.functional.graph.check_adjacency` refuses.
        """
        sizes, gates = {name: len(stage) for name, stage in self.stages()}, self.gates()
        forced: dict[str, Tensor] = {}
        words = ['complete', 'chain', *(('open', 'closed') if gates else ())]
        if isinstance(decisions, str) and decisions in words:
            forced.update((name, torch.tensor(float(decisions != 'closed'))) for name in gates)
            if decisions == 'complete':
                mean = self.node == 'block'
                forced.update((name, complete_adjacency(n, mean=mean)) for name, n in sizes.items())
            elif decisions == 'chain':
                forced.update((name, chain_adjacency(n)) for name, n in sizes.items())
        elif isinstance(decisions, Mapping):
            for name, value in decisions.items():
                if name not in sizes and name not in gates:
                    raise ValueError(f'no wired stage {name!r}; the wired stages are {list(sizes)}, and the nodes with '
                                     f'gates {list(gates)}')
                forced[name] = forced_values(name, value) if name in gates else check_adjacency(value, sizes[name], name)
        elif decisions is not None:
            raise ValueError(f'decisions must be one of {words}, a mapping from stage name to (n+1, n+1) matrices or from '
                             f'node name to (N,) zeros and ones, or None, got {decisions!r}')
        self._forced = forced

    def begin_forward(self, images: Tensor) -> ForwardPass:
        forward_pass = super().begin_forward(images)
        if self.threshold_logit is None:
            forward_pass.threshold = self._threshold
        else:
            forward_pass.threshold = self.edge_scale * torch.sigmoid(self.threshold_logit)
        return forward_pass
