"""What all dynamic backbones share: decisions, execution, freezing."""
import threading
from contextlib import contextmanager
from copy import deepcopy
from typing import Callable, Iterator, Optional

import torch
from torch import Tensor, nn

from ..functional.torch_versions import is_traced
from ..layers.decisions import Decisions
from ..layers.extension import Extension
from ..layers.forward_hooks import is_observed
from ..layers.forward_pass import Forced, ForwardPass
from ..registry import check_options
from .backbone_gates import BackboneGates

EXECUTIONS = ('skip', 'mask')

_HOOK_LINE = "custom_hooks=[dict(type='mmdyn.DynamicModelHook', losses=[dict(type='{}', loss_weight=1.0)])]"


class DynamicBackbone(BackboneGates):
    """Mixin for one of MMDetection's backbones; comes before it among the bases.

    Attributes:
        pool_padding: Whether gates and routers pool over batch padding too (for comparison).
        open_share: This share of a batch, from its first image on, runs every block while training, and no gate is
            asked about it; the decisions are those of the other images.
        losses_attached: Whether :func:`mmdyn.attach` (or the hook) reads the decisions.
    """

    losses_attached: bool = False
    pool_padding: bool = False
    open_share: float = 0.0
    _execution: str = 'skip'

    def __init__(self, *args, **kwargs) -> None:
        check_options(type(self), kwargs)
        super().__init__(*args, **kwargs)
        self._decisions = _PerThread()
        self._traced_decisions: Optional[Decisions] = None
        self._forced: Forced = None

    @property
    def decisions(self) -> Optional[Decisions]:
        """What the last forward of this thread decided; None before the first."""
        return self._decisions.value if self._traced_decisions is None else self._traced_decisions

    @decisions.setter
    def decisions(self, decisions: Optional[Decisions]) -> None:
        if is_traced():  # a compiler does not see what belongs to a thread
            self._traced_decisions = decisions
        else:
            self._traced_decisions, self._decisions.value = None, decisions

    @property
    def execution(self) -> str:
        """At evaluation, ``'skip'`` what is closed, or run all and ``'mask'`` it (reference)."""
        return self._execution

    @execution.setter
    def execution(self, execution: str) -> None:
        if execution not in EXECUTIONS:
            raise ValueError(f'execution must be one of {EXECUTIONS}, got {execution!r}')
        self._execution = execution

    @property
    def skips(self) -> bool:
        """Whether this is evaluation, and leaves out what is closed."""
        return self.execution == 'skip' and not self.training and self.decides

    def deciders(self) -> Iterator[nn.Module]:
        """The gates and routers, in the order in which they run."""
        for _, block in self.blocks():
            for kind in ('gate', 'router'):
                if hasattr(block, kind):
                    yield getattr(block, kind)

    def frozen_blocks_that_decide(self) -> list[str]:
        """Names of blocks that are frozen but for their gate or router: these keep maps for the backward pass."""
        deciders = set(self.deciders())
        names = []
        for name, block in self.named_modules():
            own = deciders.intersection(block.children())
            learning = {parameter for parameter in block.parameters() if parameter.requires_grad}
            if own and learning and learning <= {parameter for decider in own for parameter in decider.parameters()}:
                names.append(name)
        return names

    @contextmanager
    def all_open(self) -> Iterator[None]:
        """Within it, training is that of the static network: every block runs, and no gate is asked."""
        share, self.open_share = self.open_share, 1.0
        try:
            yield
        finally:
            self.open_share = share

    def _open_images(self, images: int) -> int:
        if not self.training or self.open_share in (0.0, 1.0):
            return images if self.training and self.open_share else 0
        number = round(images * self.open_share)
        if number in (0, images):
            raise ValueError(f"{self.open_share:g} of a batch runs all blocks, and the rest is decided about (form='half' "
                             f'of PairedRoutesHook): expected at least 2 images a batch, got {images}')
        return number

    def begin_forward(self, images: Tensor) -> ForwardPass:
        """Starts a forward.

        Args:
            images: (N, C, H, W) normalised input.

        Raises:
            RuntimeError: If gates would silently not learn what they are to learn.
        """
        learns = self.training and torch.is_grad_enabled()
        if learns and self.needed_loss and not self.losses_attached:
            raise RuntimeError(
                f'What the gates of {type(self).__name__} are to learn needs a loss, but nothing reads its decisions. '
                f'Add to the config:\n    {_HOOK_LINE.format(self.needed_loss)}\n'
                'or, without a Runner, call mmdyn.attach(model, losses=[...]) before training.')
        # One image at evaluation: nothing is written to twice, and nobody has to be looked for.
        hooked = (torch.is_grad_enabled() or len(images) > 1) and is_observed(self)
        return ForwardPass(images, skips=self.skips, pool_padding=self.pool_padding, forced=self._forced,
                           target_rates=self.target_rates, hooked=hooked,
                           open_images=self._open_images(len(images)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> the feature maps of ``out_indices``, as the parent returns them."""
        forward_pass = self.begin_forward(images)

        def run_stage(stage: nn.Module, x: Tensor) -> Tensor:
            return stage(x, forward_pass=forward_pass) if isinstance(stage, Extension) else stage(x)

        outs = self.run_stages(images, run_stage)
        self.decisions = forward_pass.decisions
        return outs

    def run_stages(self, images: Tensor, run_stage: Callable[[nn.Module, Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The stem and the stages, each of which is run by a function of the stage and what it reads."""
        x = self.run_stem(images)
        outs: list[Tensor] = []
        for i, name in enumerate(self.stage_names):
            x = run_stage(getattr(self, name), x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _freeze_stages(self) -> None:
        # A frozen stage keeps its weights; whether its blocks run is still to be learned.
        parameters = [p for decider in self.deciders() for p in decider.parameters()]
        trainable = [p.requires_grad for p in parameters]
        super()._freeze_stages()
        for parameter, wanted in zip(parameters, trainable):
            parameter.requires_grad_(wanted)

    def train(self, mode: bool = True) -> 'DynamicBackbone':
        """Sets the mode as the parent does; gates and routers follow it in frozen stages too."""
        super().train(mode)
        for decider in self.deciders():
            # `frozen_stages` and `norm_eval` keep what the parent has learned; a gate still learns, its norm too.
            decider.train(mode)
        return self


class _PerThread(threading.local):
    """Decisions of one thread: two threads that run one model read their own."""

    value: Optional[Decisions] = None

    def __deepcopy__(self, memo: dict) -> '_PerThread':
        copied = _PerThread()
        copied.value = deepcopy(self.value, memo)
        return copied

    def __reduce__(self) -> tuple:
        return _PerThread, ()
