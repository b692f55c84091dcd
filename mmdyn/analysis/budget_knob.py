"""The number that trades accuracy for compute after training: open probability of gates, threshold of edges."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.dynamic_backbone import DynamicBackbone
from ..engine import InputError
from ..layers.decisions import Decisions

# The highest threshold, as a share of the edge scale: a learned one has no finite logit at the end of the scale.
_HIGHEST = 1 - 1e-6


class Knob(NamedTuple):
    """An attribute of a backbone that may be moved at any time.

    Attributes:
        name: ``'open_probability'`` or ``'threshold'``.
        lowest: Value at which the most runs. Of edges the threshold of the training: it kept closed what is below.
        highest: Value at which the least runs.
    """
    name: str
    lowest: float
    highest: float

    def turns(self, decisions: Decisions) -> Tensor:
        """(K,) float64 values at which something that these images decided would turn out the other way.

        Of edges those that are open: a closed one does not tell its weight.
        """
        if self.name == 'open_probability':
            return torch.cat([logit.double().sigmoid().cpu() for logit in decisions.gate_logits.values()])
        weights = torch.cat([matrix.double().flatten().cpu() for matrix in decisions.adjacency.values()])
        return weights[weights > 0]


def knob_of(backbone: DynamicBackbone) -> Knob:
    """The knob of a backbone.

    Raises:
        InputError: If the backbone has none, or does not use it.
    """
    if not list(backbone.deciders()):
        raise InputError(f'expected a backbone with gates or wired stages, this {type(backbone).__name__} has none')
    if not backbone.gates():
        return Knob('threshold', backbone.threshold, _HIGHEST * backbone.edge_scale)
    policies = {gate.policy for gate in backbone.gates().values()}
    if policies != {'argmax'}:
        raise InputError(f"open probabilities matter under the policy 'argmax', the config has {sorted(policies)}: "
                         'give --cfg-options model.backbone.policy=argmax')
    return Knob('open_probability', 0.0, 1.0)


def check_values(backbone: DynamicBackbone, knob: Knob, values: Sequence[float]) -> list[float]:
    """The values of ``--values`` in ascending order, each once."""
    for value in values:
        try:
            setattr(backbone, knob.name, value)
        except ValueError as error:
            raise InputError(f'--values: {error}') from None
    return sorted(set(values))
