"""Gated residual blocks on top of one of MMDetection's ResNets (ConvNet-AIG)."""
from functools import partial
from typing import Callable, Iterator, Mapping, Optional, Union

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional.distributed import global_mean
from ..functional.max_pool import max_pool
from ..layers.conditional import gather, portions, run_on_open
from ..layers.gate import BaseGate, ConfidenceGate, Gate, GateOutput
from ..layers.residual import Residual
from .dynamic_backbone import DynamicBackbone
from .target_rates import TargetRates, resolve_target_rates

_GATE_OPTIONS: dict[Callable, tuple[str, ...]] = {
    Gate: ('hidden_channels', 'norm', 'temperature'),
    ConfidenceGate: ('num_classes', ),
}
ForcedGates = Union[None, str, Mapping[str, Tensor]]


class AIGBackbone(DynamicBackbone):
    """Mixin: every residual block gets a gate that opens or closes it, image by image.

    ``out = ReLU(shortcut(x) + decision * branch(x))`` (ConvNet-AIG, equation 2). The blocks, their
    parameter names and their initialisation stay the parent's; a gate is the block's child
    ``gate``. While training every block runs and the decision multiplies it; at evaluation closed
    blocks do not run.

    Args:
        target_rates: The wanted open rate of the blocks. None: gates, but no loss. A number: for
            all. A list: one entry a block, where 1 means no gate (the block always runs), 0 no
            block (it is left out of the network) and None a gate without a loss.
            ``dict(preset='paper', t=0.5)``: the paper's list for this depth.
        gate: Options of :class:`mmdyn.layers.gate.Gate`: ``hidden_channels``, ``norm``,
            ``temperature``; or, for classifiers, ``dict(num_classes=10)``, that of
            :class:`mmdyn.layers.gate.ConfidenceGate`.
        policy: How evaluation decides: ``'argmax'``, ``'sample'`` or ``'expected'``.
        open_probability: The probability above which ``argmax`` opens a gate, or
            ``'calibrated'``: each gate's own, so that its target rate is met.
        execution: ``'skip'`` closed blocks at evaluation, or ``'mask'`` them (the reference).
        **kwargs: The parent's.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    def __init__(self,
                 *args,
                 target_rates: TargetRates = None,
                 gate: Optional[dict] = None,
                 policy: str = 'argmax',
                 open_probability: Union[float, str] = 0.5,
                 execution: str = 'skip',
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.execution = execution
        self._forced: ForcedGates = None
        blocks = dict(self.blocks())
        rates = resolve_target_rates(target_rates, len(blocks), self.depth)
        build_gate = partial(_build_gate, gate, policy=policy, open_probability=open_probability)
        # Built even where no gate is: a wrong option must not pass because all rates are 1.
        build_gate(1)
        for (name, block), rate in zip(blocks.items(), rates):
            if rate == 0:
                self._leave_out(name)
            elif rate != 1:
                block.gate = build_gate(Residual(block).in_channels, target_rate=rate)
        self._target_rates = {
            name: rate for name, rate in zip(blocks, rates) if rate not in (None, 0, 1)}

    def _leave_out(self, name: str) -> None:
        layer, index = name.split('.')
        stage = getattr(self, layer)
        if Residual(stage[int(index)]).projection is not None:
            raise ValueError(f'target_rates: block {name!r} changes the shape of its input and cannot be left '
                             'out, expected a rate above 0, got 0')
        stage[int(index)] = nn.Identity()

    def blocks(self) -> Iterator[tuple[str, nn.Module]]:
        """Name (``layer1.0``) and module of every residual block, in the order they run."""
        for layer in self.res_layers:
            for i, block in enumerate(getattr(self, layer)):
                if not isinstance(block, nn.Identity):  # left out
                    yield f'{layer}.{i}', block

    def gates(self) -> dict[str, BaseGate]:
        """Block name -> gate, for the blocks that have one."""
        return {name: block.gate for name, block in self.blocks() if hasattr(block, 'gate')}

    def deciders(self) -> Iterator[nn.Module]:
        return iter(self.gates().values())

    @property
    def target_rates(self) -> dict[str, float]:
        return self._target_rates

    @property
    def needed_loss(self) -> Optional[str]:
        if any(isinstance(gate, ConfidenceGate) for gate in self.deciders()):
            return 'mmdyn.GateClassLoss'
        return super().needed_loss

    @property
    def open_probability(self) -> Union[float, str, list]:
        """Of the gates; one value where all agree. Setting it moves every gate."""
        values = [gate.open_probability for gate in self.deciders()]
        return values[0] if len(set(values)) == 1 else values

    @open_probability.setter
    def open_probability(self, value: Union[float, str]) -> None:
        for gate in self.deciders():
            gate.open_probability = value

    def force_decisions(self, decisions: ForcedGates) -> None:
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
            decisions = {name: _forced_values(name, value) for name, value in decisions.items()}
        self._forced = decisions

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> the feature maps of ``out_indices``, as the parent returns them."""
        self.begin_forward(images)
        self._pooled: Optional[Tensor] = None
        x = self._stem(images)
        outs: list[Tensor] = []
        for i, layer in enumerate(self.res_layers):
            for k, block in enumerate(getattr(self, layer)):
                # A map that leaves the backbone must not be overwritten by the next block.
                x = self._run_block(f'{layer}.{k}', block, x, may_overwrite=k > 0 or i == 0)
            if i in self.out_indices:
                outs.append(x)
        self._pooled = None
        return tuple(outs)

    def _stem(self, x: Tensor) -> Tensor:
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        return max_pool(self.maxpool, x)

    def _run_block(self, name: str, block: nn.Module, x: Tensor, may_overwrite: bool) -> Tensor:
        if not hasattr(block, 'gate'):
            self._pooled = None
            return block(x)
        decision = self._decide(name, block.gate, x)
        residual = Residual(block)
        if self.skips and block.gate.policy != 'expected':
            return self._run_skipped(residual, x, decision, may_overwrite)
        self._pooled = None
        return _run_masked(residual, x, decision, with_cp=self.with_cp)

    def _decide(self, name: str, gate: BaseGate, x: Tensor) -> Tensor:
        # A block that was closed for all images has left its average.
        if self._pooled is None:
            self._pooled = self.pool(x)
        before = next(reversed(self.decisions.gates.values()), None)
        decision, logit, features = ask(gate, self._pooled, before)
        if self._forced is not None:
            decision = self._force(name, decision)
        self.decisions.gates[name] = decision
        self.decisions.gate_logits[name] = logit
        if features is not None:
            self.decisions.gate_features[name] = features
        return decision

    def _force(self, name: str, decision: Tensor) -> Tensor:
        if isinstance(self._forced, str):
            forced = torch.full_like(decision, float(self._forced == 'open'))
        elif name in self._forced:
            forced = self._forced[name].to(decision)
            if forced.shape != decision.shape:
                raise ValueError(f'forced decisions of block {name!r} must have shape '
                                 f'{tuple(decision.shape)} for this batch, got {tuple(forced.shape)}')
        else:
            return decision
        return forced + (decision - decision.detach())

    def restart_calibration(self) -> None:
        """Lets the next calibrations take larger steps again, from where the quantiles are."""
        for gate in self.gates().values():
            gate.calibration_steps.clamp_(max=2)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Moves the running quantiles by the last forward's logits, over all ranks."""
        gates = {name: gate for name, gate in self.gates().items() if name in self.target_rates}
        if not gates:
            return
        logits = torch.stack([self.decisions.gate_logits[name].detach() for name in gates])
        offsets = logits - torch.stack([gate.quantile for gate in gates.values()])[:, None]
        above, distance = global_mean(torch.cat([(offsets > 0).float(), offsets.abs()])).chunk(2)
        for gate, *statistics in zip(gates.values(), above, distance):
            gate.calibrate(*statistics)

    def _run_skipped(self, residual: Residual, x: Tensor, decision: Tensor,
                     may_overwrite: bool) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != 'cpu':
            return self._run_gathered(residual, x, decision)
        ran = [n for n, is_open in enumerate(decision.tolist()) if is_open]
        projected = residual.projection is not None
        if not (ran or projected):
            return x  # The previous activation has already made it non-negative.
        self._pooled = None
        out = residual.shortcut(x)
        if not (projected or may_overwrite):
            out = out.clone()
        for images in portions(ran, out):
            branch = residual.branch(gather(x, images))
            for n, of_image in zip(images, branch):
                residual.activate(out[n].add_(of_image))
        if projected:
            for n in set(range(len(out))).difference(ran):
                residual.activate(out[n])
        return out

    def _run_gathered(self, residual: Residual, x: Tensor, decision: Tensor) -> Tensor:
        """The same in a few large operations, and with a backward pass."""
        branch, index = run_on_open(residual.branch, x, decision)
        if branch is None and residual.projection is None:
            return x
        self._pooled = None
        shortcut = residual.shortcut(x)
        if index is None:
            return residual.activate(branch + shortcut)
        if branch is not None:
            shortcut = shortcut.index_add(0, index, branch.to(shortcut.dtype))
        return residual.activate(shortcut)


def ask(gate: BaseGate, pooled: Tensor, before: Optional[Tensor]) -> GateOutput:
    """What a gate says; one that knows the classes opens for no image that the gate before it shut.

    Args:
        gate: The gate.
        pooled: (N, channels), what it reads.
        before: (N,) decisions of the gate before it, if there is one.
    """
    output = gate(pooled)
    if before is None or not isinstance(gate, ConfidenceGate):
        return output
    return output._replace(decision=output.decision * before)


def _build_gate(options: Optional[dict], in_channels: int, **kwargs) -> BaseGate:
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f'gate must be a dict of options or None, got {options!r}')
    options = dict(options or {})
    kind: Callable[..., BaseGate] = ConfidenceGate if 'num_classes' in options else Gate
    unknown = set(options) - set(_GATE_OPTIONS[kind])
    if unknown:
        raise ValueError(f'gate takes the options {_GATE_OPTIONS[kind]}, got {sorted(unknown)}')
    return kind(in_channels, **options, **kwargs)


def _forced_values(name: str, value: object) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32)
    if value.dim() != 1 or not ((value == 0) | (value == 1)).all():
        raise ValueError(f'forced decisions of block {name!r} must be (N,) zeros and ones, '
                         f'got {value}')
    return value


def _run_masked(residual: Residual, x: Tensor, decision: Tensor, with_cp: bool) -> Tensor:
    if with_cp and x.requires_grad:
        branch = checkpoint(residual.branch, x, use_reentrant=False)
    else:
        branch = residual.branch(x)
    scale = decision.to(branch.dtype)[:, None, None, None]
    return residual.activate(torch.addcmul(residual.shortcut(x), branch, scale))
