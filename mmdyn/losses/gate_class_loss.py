"""The loss that lets the model's classifier decide between the blocks as well."""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.decisions import Decisions
from ..layers.gate import ConfidenceGate, check_number
from ..registry import MODELS


@MODELS.register_module()
class GateClassLoss(nn.Module):
    """``loss_weight * mean over gates of the cross-entropy of the classifier on what they read``.

    Supervises the features between the blocks (deeply-supervised nets: Lee et al., AISTATS 2015,
    arXiv 1409.5185, equation 3), with one classifier for all depths and for the model's own
    scores. For classifiers with confidence gates
    (:class:`mmdyn.layers.gate.ConfidenceGate`), which it keeps equal to that classifier.

    Args:
        classifier: Name of the model's linear layer that gives the class scores.
        loss_weight: At least 0.
    """

    name = 'loss_gate_class'
    needs_labels = True

    def __init__(self, *, classifier: str = 'head.fc', loss_weight: float = 1.0) -> None:
        super().__init__()
        self.classifier_name = classifier
        self.loss_weight = check_number('loss_weight', loss_weight, 0.0)
        self._linked: list[nn.Module] = []  # a list, so that the model's layer is not registered as the loss's own

    def link(self, model: nn.Module) -> None:
        """Finds the classifier and the gates.

        Raises:
            ValueError: If there is no such layer, or a gate has other channels or classes.
        """
        classifier = dict(model.named_modules()).get(self.classifier_name)
        if not isinstance(classifier, nn.Linear):
            raise ValueError(f'GateClassLoss: expected a linear layer as classifier {self.classifier_name!r} of '
                             f'{type(model).__name__}, got {type(classifier).__name__}')
        gates = {name: m for name, m in model.named_modules() if isinstance(m, ConfidenceGate)}
        for name, gate in gates.items():
            if gate.fc.weight.shape != classifier.weight.shape:
                (classes, channels), (own_classes, own_channels) = classifier.weight.shape, gate.fc.weight.shape
                raise ValueError(
                    f'GateClassLoss: {self.classifier_name} gives {classes} classes from {channels} channels, so a gate '
                    f'needs a block with {channels} and num_classes={classes}; {name} reads {own_channels} and has '
                    f'{own_classes} (target_rates 1 for blocks of other widths)')
        self._linked = [classifier, *gates.values()]

    @torch.no_grad()
    def update(self) -> None:
        """Copies the classifier to the gates."""
        classifier, *gates = self._linked
        for gate in gates:
            gate.fc.weight.copy_(classifier.weight)
            gate.fc.bias.copy_(0 if classifier.bias is None else classifier.bias)

    def forward(self, decisions: Decisions, labels: Tensor) -> Optional[Tensor]:
        """Returns the scalar loss; None where no gate is a confidence gate.

        Args:
            decisions: Of N images.
            labels: (N,) class indices, or (N, classes) probabilities.
        """
        features = decisions.gate_features
        if not features:
            return None
        classifier, *_ = self._linked
        losses = [F.cross_entropy(classifier(read), labels) for read in features.values()]
        return self.loss_weight * sum(losses) / len(losses)
