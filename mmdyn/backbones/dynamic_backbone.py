"""What all dynamic backbones share: decisions, execution, freezing."""
from typing import Any, Callable, Iterator, Optional

import torch
from torch import Tensor, nn

from ..functional.pooling import (cropped_pool, fill_their_frame, pooling_weights, valid_cells,
                                  valid_sizes, weighted_pool)
from ..functional.torch_versions import is_traced
from ..layers.decisions import Decisions

EXECUTIONS = ('skip', 'mask')

_HOOK_LINE = "custom_hooks=[dict(type='mmdyn.DynamicModelHook', losses=[dict(type='{}', loss_weight=1.0)])]"


class DynamicBackbone(nn.Module):
    """Mixin for one of MMDetection's backbones; comes before it among the bases.

    Attributes:
        decisions: What the last forward decided; None before the first.
        pool_padding: Whether gates and routers pool over batch padding too (for comparison).
        losses_attached: Whether :func:`mmdyn.attach` (or the hook) reads the decisions.
    """

    decisions: Optional[Decisions] = None
    losses_attached: bool = False
    pool_padding: bool = False
    _execution: str = 'skip'

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
        """Whether closed parts are left out now; in training everything runs."""
        return self.execution == 'skip' and not self.training

    @property
    def target_rates(self) -> dict[str, float]:
        """Block name -> target rate, for the blocks that have one."""
        return {}

    @property
    def needed_loss(self) -> Optional[str]:
        """The loss without which the decisions would not learn, if there is one."""
        return 'mmdyn.TargetRateLoss' if self.target_rates else None

    def deciders(self) -> Iterator[nn.Module]:
        """The gates or routers, in the order in which they run."""
        raise NotImplementedError

    def calibrate(self) -> None:
        """Lets running statistics of the decisions follow the last forward, if there are any."""

    def begin_forward(self, images: Tensor) -> Decisions:
        """Starts the decisions of a new forward.

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
        input_size = (images.shape[2], images.shape[3])
        reads_values = self.skips and not is_traced()
        if self.pool_padding or (reads_values and fill_their_frame(images)):
            sizes = torch.tensor([input_size], device=images.device).expand(len(images), 2)
        else:
            sizes = valid_sizes(images)
        self.decisions = Decisions(sizes, input_size, self.target_rates)
        self._computed: dict[tuple, Any] = {}
        return self.decisions

    def pool(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C) averages over each image's valid part."""
        feature_size = (features.shape[2], features.shape[3])
        if self.training:
            return weighted_pool(features, self.pooling_weights(feature_size))
        return cropped_pool(features, self.valid_cells(feature_size))

    def valid_cells(self, feature_size: tuple[int, int]) -> list[list[int]]:
        """N pairs: the size of each image's valid part on a feature map, read by the host."""
        return self._once('cells', feature_size, lambda cells: cells.tolist())

    def pooling_weights(self, feature_size: tuple[int, int]) -> Tensor:
        """(N, h * w) weights that average a feature map over each image's valid part."""
        return self._once('weights', feature_size,
                          lambda cells: pooling_weights(cells, feature_size))

    def _once(self, what: str, feature_size: tuple[int, int], compute: Callable) -> Any:
        """Computes something from the valid cells, once a forward for every feature size."""
        if (what, feature_size) not in self._computed:
            decisions = self.decisions
            self._computed[what, feature_size] = compute(
                valid_cells(decisions.sizes, decisions.input_size, feature_size))
        return self._computed[what, feature_size]

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
            decider.train(mode)
            norm = getattr(decider, 'norm', None)
            # `norm_eval` keeps learned statistics; those of a fresh gate are still to be learned.
            if norm is not None and self.norm_eval and not decider.norm_is_fresh:
                norm.eval()
        return self
