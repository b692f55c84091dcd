"""Reads the options on gates of wired stages, and gives the nodes their gates."""
from typing import Mapping, Optional, Union

from torch import nn

from ..layers.residual import Residual
from .gate_options import build_gate, check_targets
from .target_rates import TargetRates, resolve_target_rates


def add_node_gates(nodes: Mapping[str, nn.Module], *, depth: Optional[int], target_rates: TargetRates,
                   gate: Optional[dict], policy: str, open_probability: Union[float, str]) -> dict[str, float]:
    """Gives each node but the first of its stage a child ``gate``, unless its rate says that it always runs.

    Args:
        nodes: Name -> block, of all wired stages.
        depth: Of the backbone, if it has one.
        target_rates, gate, policy, open_probability: As the backbone's options.

    Returns:
        Name -> target rate, for the nodes that have one.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """
    if not nodes:
        raise ValueError('node_gates=True needs a stage of two or more blocks, the first of which always runs; '
                         'this backbone has none')
    if isinstance(gate, Mapping) and 'num_classes' in gate:
        raise ValueError(f'node gates learn by sampling: expected a gate without num_classes, got {dict(gate)}')
    if isinstance(target_rates, Mapping) and target_rates.get('preset') == 'suffix':
        raise ValueError(f'each node has a gate of its own: expected target_rates without groups, got {target_rates}')
    first = [name for name, block in nodes.items() if block.node == 0]
    rates = resolve_target_rates(target_rates, list(nodes), first, depth, why='has the input of its stage')
    check_targets(gate, open_probability, rates)
    for name, rate in rates.items():
        if rate == 0:
            raise ValueError(f'target_rates: a node has to run for some images, expected a rate above 0 for {name!r}, '
                             'got 0')
        # Built even where none is: a wrong option must not pass because all rates are 1.
        built = build_gate(gate, Residual(nodes[name]).in_channels, policy=policy, open_probability=open_probability,
                           target_rate=rate)
        if rate != 1:
            nodes[name].gate = built
    return {name: rate for name, rate in rates.items() if rate not in (None, 1)}


def check_without_gates(**options: object) -> None:
    """Raises ValueError if an option is given that is one of gates, where there are none."""
    defaults = dict(target_rates=None, gate=None, policy='argmax', open_probability=0.5)
    for name, value in options.items():
        if value != defaults[name]:
            raise ValueError(f'{name} is an option of node gates: expected node_gates=True with it, got {name}={value!r}')
