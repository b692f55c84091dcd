"""The loss that teaches gates the classes of the images."""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.decisions import Decisions
from ..layers.gate import check_number
from ..registry import MODELS


@MODELS.register_module()
class GateClassLoss(nn.Module):
    """``loss_weight * mean over gates of the cross-entropy of their class scores``.

    Supervises the features between the blocks as well (deeply-supervised nets: Lee et al., AISTATS
    2015, arXiv 1409.5185, equation 3). For classifiers whose gates have class scores, as
    :class:`mmdyn.layers.gate.ConfidenceGate` has.

    Args:
        loss_weight: At least 0.
    """

    name = 'loss_gate_class'
    needs_labels = True

    def __init__(self, *, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)

    def forward(self, decisions: Decisions, labels: Tensor) -> Optional[Tensor]:
        """Returns the scalar loss; None where no gate has class scores.

        Args:
            decisions: Of N images.
            labels: (N,) class indices, or (N, classes) probabilities.
        """
        scores = decisions.class_scores
        if not scores:
            return None
        losses = [F.cross_entropy(score, labels) for score in scores.values()]
        return self.loss_weight * sum(losses) / len(losses)
