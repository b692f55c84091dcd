"""Gated residual blocks on top of one of MMDetection's backbones (ConvNet-AIG)."""
from functools import partial
from typing import Callable, Iterator, Mapping, Optional, Sequence, Union

from torch import nn

from ..layers.extension import extend
from ..layers.forward_pass import Forced
from ..layers.gate import BaseGate, ConfidenceGate
from ..layers.gated_stage import GatedBlock, GatedStage
from ..layers.residual import Residual
from .gate_groups import resolve_groups
from .gate_options import build_gate, check_targets, forced_values
from .target_rates import TargetRates, resolve_target_rates, suffixes
from .train_execution import TrainExecution


class AIGBackbone(TrainExecution):
    """Mixin: every residual block gets a gate that opens or closes it, image by image.

    ``out = ReLU(shortcut(x) + decision * branch(x))`` (ConvNet-AIG, equation 2). The blocks, their
    parameter names and their initialisation stay the parent's; a gate is the block's child
    ``gate``. While training, by default, every block runs and the decision multiplies it; at evaluation
    closed blocks do not run.

    Args:
        target_rates: The wanted open rate of the blocks. None: gates, but no loss. A number: for
            all. A list: one entry a block, where 1 means no gate (the block always runs), 0 no
            block (it is left out of the network) and None a gate without a loss.
            ``dict(preset='paper', t=0.5)``: the paper's list for this depth.
            ``dict(preset='suffix', keep=1, t=0.5)``: the first ``keep`` blocks of each stage (an
            int, or one a stage) always run, and the rest of the stage has one gate.
        gate_groups: Lists of names of blocks, such as ``[['layer3.2', 'layer3.3']]``. The gate of a
            group's first block decides for all of them; they lie in one stage, have one rate, and
            do not change the shape of what they read.
        gate: Options of :class:`mmdyn.layers.gate.Gate`: ``hidden_channels``, ``norm``,
            ``temperature``, ``estimator``; or, for classifiers, ``dict(num_classes=10)``, that of
            :class:`mmdyn.layers.gate.ConfidenceGate`.
        policy: How evaluation decides: ``'argmax'``, ``'sample'`` or ``'expected'``.
        open_probability: The probability above which ``argmax`` opens a gate, or
            ``'calibrated'``: each gate's own, so that its target rate is met.
        execution: ``'skip'`` closed blocks at evaluation, or ``'mask'`` them (the reference).
        train_execution: ``'mask'``: while training every block runs, and the decision multiplies it. ``'skip'``: a block
            runs on its open images and on a drawn share of the closed ones, from which the gates learn what opening
            would be worth. Its norms must be frozen (``norm_eval=True``).
        exploration: That share, in (0, 1].
        **kwargs: The parent's.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    def __init__(self,
                 *args,
                 target_rates: TargetRates = None,
                 gate_groups: Optional[Sequence[Sequence[str]]] = None,
                 gate: Optional[dict] = None,
                 policy: str = 'argmax',
                 open_probability: Union[float, str] = 0.5,
                 execution: str = 'skip',
                 train_execution: str = 'mask',
                 exploration: float = 0.1,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.execution = execution
        self._set_up_train_execution(train_execution, exploration)
        blocks = dict(self.blocks())
        residuals = {name: Residual(block) for name, block in blocks.items()}
        always_run = [name for name, residual in residuals.items() if not residual.has_shortcut]
        rates = resolve_target_rates(target_rates, list(blocks), always_run, getattr(self, 'depth', None))
        shared = suffixes(target_rates, list(blocks), always_run)
        if shared is not None and gate_groups is not None:
            raise ValueError("target_rates preset 'suffix' makes its own groups: expected no gate_groups beside it, "
                             f'got {gate_groups!r}')
        groups = gate_groups if shared is None else [group for group in shared if len(group) > 1]
        self._followers = resolve_groups(groups, residuals, rates)
        build = partial(build_gate, gate, policy=policy, open_probability=open_probability)
        # Built even where no gate is: a wrong option must not pass because all rates are 1.
        build(1)
        check_targets(gate, open_probability, rates)
        self._add_gates(rates, build)
        self._target_rates = {name: rate for name, rate in rates.items()
                              if rate not in (None, 0, 1) and name not in self._followers}

    def _add_gates(self, rates: Mapping[str, Optional[float]], build: Callable[..., BaseGate]) -> None:
        blocks = dict(self.blocks())
        for name, rate in rates.items():
            if rate == 0:
                self._leave_out(name)
            elif rate != 1:
                extend(blocks[name], GatedBlock, name)
                if name in self._followers:
                    blocks[name].leader = self._followers[name]
                else:
                    blocks[name].gate = build(Residual(blocks[name]).in_channels, target_rate=rate)
        for name in self.stage_names:
            stage = getattr(self, name)
            if any(isinstance(block, GatedBlock) for block in stage.children()):
                extend(stage, GatedStage, name)

    def _leave_out(self, name: str) -> None:
        layer, index = name.split('.')
        stage = getattr(self, layer)
        if Residual(stage[int(index)]).projection is not None:
            raise ValueError(f'target_rates: block {name!r} changes the shape of its input and cannot be left '
                             'out, expected a rate above 0, got 0')
        stage[int(index)] = nn.Identity()

    def blocks(self) -> Iterator[tuple[str, nn.Module]]:
        for name in self.stage_names:
            stage = getattr(self, name)
            for i, block in enumerate(stage if isinstance(stage, nn.Sequential) else ()):
                if not isinstance(block, nn.Identity):  # left out
                    yield f'{name}.{i}', block

    @property
    def followers(self) -> dict[str, str]:
        return self._followers

    def blocks_left_out(self) -> dict[str, nn.Module]:
        return {name: block for name, block in self.blocks() if isinstance(block, GatedBlock)}

    @property
    def needed_loss(self) -> Optional[str]:
        if any(isinstance(gate, ConfidenceGate) for gate in self.deciders()):
            return 'mmdyn.GateClassLoss'
        return super().needed_loss

    def force_decisions(self, decisions: Forced) -> None:
        """Fixes what the gates decide, for study and tests; training keeps their gradient.

        Args:
            decisions: ``'open'``, ``'closed'``, a mapping from block name to (N,) zeros and ones
                (blocks not named decide for themselves), or None to let the gates decide again.

        Raises:
            ValueError: For anything else, or a block that does not exist or has no gate.
        """
        if decisions is not None and decisions not in ('open', 'closed'):
            if not isinstance(decisions, Mapping):
                raise ValueError("decisions must be 'open', 'closed', a mapping from block name to "
                                 f'(N,) zeros and ones, or None, got {decisions!r}')
            gates = self.gates()
            for name in decisions:
                if name not in gates:
                    raise ValueError(f'no gate at block {name!r}; the gated blocks are {list(gates)}')
            decisions = {name: forced_values(name, value) for name, value in decisions.items()}
        self._forced = decisions
