"""Reads the options on gates that backbones share."""
from typing import Callable, Mapping, Optional, Union

import torch
from torch import Tensor

from ..layers.gate import BaseGate, ConfidenceGate, Gate

_GATE_OPTIONS: dict[Callable, tuple[str, ...]] = {
    Gate: ('hidden_channels', 'norm', 'temperature', 'estimator'),
    ConfidenceGate: ('num_classes', ),
}


def build_gate(options: Optional[dict], in_channels: int, **kwargs) -> BaseGate:
    """Builds the gate of one block.

    Args:
        options: Of :class:`mmdyn.layers.gate.Gate`, or of :class:`mmdyn.layers.gate.ConfidenceGate`; or None.
        in_channels: Channels of what the block reads.
        **kwargs: Those of :class:`mmdyn.layers.gate.BaseGate`.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f'gate must be a dict of options or None, got {options!r}')
    options = dict(options or {})
    kind: Callable[..., BaseGate] = ConfidenceGate if 'num_classes' in options else Gate
    unknown = set(options) - set(_GATE_OPTIONS[kind])
    if unknown:
        raise ValueError(f'gate takes the options {_GATE_OPTIONS[kind]}, got {sorted(unknown)}')
    return kind(in_channels, **options, **kwargs)


def check_targets(options: Optional[dict], open_probability: Union[float, str],
                  rates: Mapping[str, Optional[float]]) -> None:
    """Raises ValueError if gates are to open for a share of the images or of the cost that nobody has named.

    Args:
        options: Those of :func:`build_gate`.
        open_probability: Of all gates.
        rates: Block name -> target rate.
    """
    without = [name for name, rate in rates.items() if rate is None]
    needing = (["open_probability='calibrated'"] if open_probability == 'calibrated' else []) + (
        ["gate=dict(estimator='taught')"] if dict(options or {}).get('estimator') == 'taught' else [])
    if without and needing:
        raise ValueError(f'{" and ".join(needing)}: gates then open for their target rate of the images; expected '
                         f'target_rates for all gated blocks, got None for {", ".join(without)}')


def forced_values(name: str, value: object) -> Tensor:
    """(N,) zeros and ones, what a gate is to decide.

    Raises:
        ValueError: For anything else, naming the block.
    """
    value = torch.as_tensor(value, dtype=torch.float32)
    if not value.is_leaf:  # only who asks for a gradient of the value itself gets one
        value = value.detach()
    if value.dim() != 1 or not ((value == 0) | (value == 1)).all():
        raise ValueError(f'forced decisions of block {name!r} must be (N,) zeros and ones, '
                         f'got {value}')
    return value
