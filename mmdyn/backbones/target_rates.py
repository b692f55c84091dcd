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


def resolve_target_rates(target_rates: TargetRates, blocks: Sequence[str], always_run: Sequence[str],
                         depth: Optional[int], why: str = 'has no shortcut') -> dict[str, Optional[float]]:
    """Block name -> a rate, 1 (no gate: always runs), 0 (left out), or None (a gate without a loss).

    Args:
        target_rates: None, a number for all blocks, a list with one entry a block,
            ``dict(preset='paper', t=0.5)`` or ``dict(preset='suffix', keep=1, t=0.5)``.
        blocks: Names of the backbone's residual blocks.
        always_run: Those without a gate: closed, they would hand on nothing.
        depth: Of the backbone, if it has one; presets depend on it.
        why: A block is among ``always_run``, for the message.

    Raises:
        ValueError, TypeError: Saying what was expected and what came.
    """
    if isinstance(target_rates, dict):
        rates = _preset(target_rates, blocks, always_run, depth)
    elif target_rates is None or isinstance(target_rates, Real):
        rates = [1 if name in always_run else target_rates for name in blocks]
    elif isinstance(target_rates, Sequence) and not isinstance(target_rates, str):
        rates = list(target_rates)
    else:
        raise TypeError('target_rates must be None, a number, a list with one entry a block or a preset such as '
                        f"dict(preset='paper', t=...), got {target_rates!r}")
    if len(rates) != len(blocks):
        raise ValueError(f'target_rates must have {len(blocks)} entries, one for each residual block '
                         f'of this {"" if depth is None else f"depth-{depth} "}backbone, got {len(rates)}')
    for i, (name, rate) in enumerate(zip(blocks, rates)):
        if rate is not None:
            check_number(f'target_rates[{i}]', rate, 0.0, 1.0)
        if name in always_run and rate != 1:
            raise ValueError(f'target_rates[{i}] is for block {name!r}, which {why} and so no gate: expected '
                             f'1, got {rate!r}')
    return dict(zip(blocks, rates))


def suffixes(target_rates: TargetRates, blocks: Sequence[str], always_run: Sequence[str]) -> Optional[list[list[str]]]:
    """The groups of blocks that ``preset='suffix'`` gives one gate each; None of other target rates.

    Raises:
        ValueError: Saying what ``keep`` may be.
    """
    if not isinstance(target_rates, dict) or target_rates.get('preset') != 'suffix':
        return None
    stages: dict[str, list[str]] = {}
    for name in blocks:
        stages.setdefault(name.partition('.')[0], []).append(name)
    keep = target_rates['keep']
    keeps = [keep] * len(stages) if isinstance(keep, int) else keep
    if (isinstance(keep, bool) or not isinstance(keeps, Sequence) or len(keeps) != len(stages)
            or not all(isinstance(number, int) and number >= 1 for number in keeps)):
        raise ValueError("target_rates preset 'suffix': keep is how many blocks of a stage always run, an int of at "
                         f'least 1 or one for each of the {len(stages)} stages, got {keep!r}')
    rests = [names[number:] for names, number in zip(stages.values(), keeps)]
    groups = [rest for rest in ([name for name in names if name not in always_run] for names in rests) if rest]
    if not groups:
        raise ValueError(f"target_rates preset 'suffix': keep={keep!r} leaves no block to decide about; the stages have "
                         f'{[len(names) for names in stages.values()]} blocks')
    return groups


def _preset(options: dict, blocks: Sequence[str], always_run: Sequence[str],
            depth: Optional[int]) -> list[Optional[float]]:
    expected = {'paper': {'preset', 't'}, 'suffix': {'preset', 'keep', 't'}}
    preset = options.get('preset')
    if not isinstance(preset, str) or set(options) != expected.get(preset):
        raise ValueError("a target_rates preset is dict(preset='paper', t=<rate>) or "
                         f"dict(preset='suffix', keep=<blocks>, t=<rate>), got {dict(options)!r}")
    if options['preset'] == 'suffix':
        if options['t'] in (0, 1):
            raise ValueError(f"target_rates preset 'suffix': expected t between 0 and 1, or None, got {options['t']!r}: "
                             'what always runs, or never, has no gate')
        gated = {name for suffix in suffixes(options, blocks, always_run) or () for name in suffix}
        return [options['t'] if name in gated else 1 for name in blocks]
    if depth not in PAPER_RATES:
        raise ValueError(f"target_rates preset 'paper' exists for depths {list(PAPER_RATES)}, "
                         f'got depth {depth}; give a number or a list instead')
    return [options['t'] if rate == 't' else rate for rate in PAPER_RATES[depth]]
