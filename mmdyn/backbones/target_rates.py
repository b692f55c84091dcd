"""Reads the ``target_rates`` option: one rate for each block."""
from numbers import Real
from typing import Optional, Sequence, Union

from ..layers.gate import check_number

TargetRates = Union[None, float, Sequence[Optional[float]], dict]

# The paper's lists for ImageNet, 't' standing for the one free rate (ConvNet-AIG, section 4.2).
PAPER_RATES = {
    50: [1, 1, .8, 1] + ['t'] * 3 + [1] + ['t'] * 5 + [1, .7, 1],
    101: [1] * 8 + ['t'] * 25,
}


def resolve_target_rates(target_rates: TargetRates, num_blocks: int,
                         depth: int) -> list[Optional[float]]:
    """One entry a block: a rate, 1 (no gate: always runs), 0 (left out), or None (a gate without a loss).

    Args:
        target_rates: None, a number for all blocks, a list with one entry a block, or
            ``dict(preset='paper', t=0.5)``.
        num_blocks: Residual blocks of the backbone.
        depth: Of the backbone; presets depend on it.

    Raises:
        ValueError, TypeError: Saying what was expected and what came.
    """
    if isinstance(target_rates, dict):
        rates = _preset(target_rates, depth)
    elif target_rates is None or isinstance(target_rates, Real):
        rates = [target_rates] * num_blocks
    elif isinstance(target_rates, Sequence) and not isinstance(target_rates, str):
        rates = list(target_rates)
    else:
        raise TypeError('target_rates must be None, a number, a list with one entry a block or '
                        f"dict(preset='paper', t=...), got {target_rates!r}")
    if len(rates) != num_blocks:
        raise ValueError(f'target_rates must have {num_blocks} entries, one for each residual block '
                         f'of this depth-{depth} backbone, got {len(rates)}')
    return [
        rate if rate is None else check_number(f'target_rates[{i}]', rate, 0.0, 1.0)
        for i, rate in enumerate(rates)
    ]


def _preset(options: dict, depth: int) -> list[Optional[float]]:
    if set(options) != {'preset', 't'} or options['preset'] != 'paper':
        raise ValueError("a target_rates preset is dict(preset='paper', t=<rate>), "
                         f'got {dict(options)!r}')
    if depth not in PAPER_RATES:
        raise ValueError(f"target_rates preset 'paper' exists for depths {list(PAPER_RATES)}, "
                         f'got depth {depth}; give a number or a list instead')
    return [options['t'] if rate == 't' else rate for rate in PAPER_RATES[depth]]
