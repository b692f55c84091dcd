"""The weight above which the edges of wired stages are open: given, or learned."""
from typing import Mapping, Union

import torch
from torch import nn

from ..layers.gate import check_number
from ..layers.router import edge_logit


class EdgeThreshold(nn.Module):
    """Mixin for a wired backbone.

    Attributes:
        edge_scale: The largest weight of an edge.
    """

    edge_scale: float

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
