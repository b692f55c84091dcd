"""How the open rate of every block went during a training, read from its log."""
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.figure import Figure
from mmengine.registry import MODELS

from ..engine import InputError, check_output_folder
from .trained_model import read_config

TRAINING, EVALUATION = 'open_rate/', 'compute/open_rate/'


@dataclass(frozen=True)
class Rates:
    """Open rates over a training.

    Attributes:
        blocks: L names.
        steps: (T,) iterations.
        values: (T, L).
    """

    blocks: list[str]
    steps: np.ndarray
    values: np.ndarray


def find_scalars(run: Path) -> Path:
    """The scalars.json of a run.

    Raises:
        InputError: If there is none.
    """
    if run.suffix == '.json' and run.is_file():
        return run
    folder = run.parent if run.is_file() else run
    # Runs are named by their time, so that the last one sorts last.
    found = sorted(folder.glob('**/vis_data/scalars.json'))
    if not found:
        raise InputError('expected a run with vis_data/scalars.json, which LocalVisBackend writes, '
                         f'found none in {run}')
    return found[-1]


def read_rows(path: Path) -> list[dict]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f'expected lines of JSON, {path} has something else ({error})') from None
    return [row for row in rows if isinstance(row, dict)]


def read_rates(rows: list[dict], prefix: str) -> Optional[Rates]:
    """What was logged under a prefix; None if nothing was. Of a resumed run, the later report of a step counts."""
    kept = {row['step']: row for row in rows if 'step' in row and any(key.startswith(prefix) for key in row)}
    if not kept:
        return None
    steps = sorted(kept)
    blocks = [key.removeprefix(prefix) for key in kept[steps[-1]] if key.startswith(prefix)]
    values = [[kept[step].get(prefix + block, np.nan) for block in blocks] for step in steps]
    return Rates(blocks, np.array(steps), np.array(values))


def evaluation_iterations(evaluation: Rates, rows: list[dict]) -> Rates:
    """With iterations where the log counts evaluations in epochs."""
    iterations = {row['epoch']: row['step'] for row in rows if 'epoch' in row and 'iter' in row and 'step' in row}
    steps = np.array([iterations.get(step, step) for step in evaluation.steps])
    return Rates(evaluation.blocks, steps, evaluation.values)


def read_targets(run_config: Path) -> dict[str, float]:
    """Block -> target rate, of the backbone of the config that a run has written down; empty where there is none."""
    if not run_config.is_file():
        return {}
    backbone = read_config(str(run_config)).model.backbone
    return MODELS.build(dict(backbone, init_cfg=None)).target_rates


def draw(training: Rates, evaluation: Optional[Rates], targets: Mapping[str, float]) -> Figure:
    """Mean and spread over blocks above, every block below, with its target beside it."""
    blocks = training.blocks
    figure = Figure(figsize=(9, 3.6 + 0.17 * len(blocks)), layout='constrained')
    (top, _), (bottom, beside) = axes = figure.subplots(
        2, 2, sharex='col', height_ratios=(2.4, 0.6 + 0.17 * len(blocks)), width_ratios=(30, 1))
    axes[0, 1].remove()
    top.fill_between(training.steps, training.values.min(axis=1), training.values.max(axis=1), color='#56B4E9',
                     alpha=0.35, lw=0, label='from the least to the most open block')
    top.plot(training.steps, training.values.mean(axis=1), color='#0072B2', label='mean, training (sampled)')
    if evaluation is not None:
        top.plot(evaluation.steps, evaluation.values.mean(axis=1), 'D', color='#D55E00', ms=5,
                 label='mean, evaluation (deterministic)')
    wanted = np.array([targets.get(block, np.nan) for block in blocks])
    if targets:
        top.axhline(np.nanmean(wanted), color='#333333', ls='--', lw=1, label='mean of the targets')
    top.set(ylabel='open rate', ylim=(-0.02, 1.02))
    top.legend(frameon=False, fontsize=8, loc='lower left')
    colours = dict(cmap='cividis', vmin=0, vmax=1)
    rows = np.arange(len(blocks) + 1)
    picture = bottom.pcolormesh(_edges(training.steps), rows, training.values.T, **colours)
    bottom.set_yticks(rows[:-1] + 0.5, blocks, fontsize=7)
    bottom.invert_yaxis()
    bottom.set_xlabel('iteration')
    beside.pcolormesh([0, 1], rows, wanted[:, None], **colours)
    beside.set(xticks=[], yticks=[], ylim=bottom.get_ylim())
    beside.set_title('target' if targets else 'no target', fontsize=7)
    for row, target in enumerate(wanted):
        if not np.isnan(target):
            beside.text(1.2, row + 0.5, f'{target:.2g}', fontsize=7, va='center')
    figure.colorbar(picture, ax=[bottom, beside], label='open rate', fraction=0.04, pad=0.02)
    return figure


def _edges(steps: np.ndarray) -> np.ndarray:
    """(T + 1,) borders of the cells of (T,) reports, half way to the neighbours."""
    half = (steps[-1] - steps[0]) / max(2 * (len(steps) - 1), 1) or 0.5
    return np.concatenate([[steps[0] - half], (steps[1:] + steps[:-1]) / 2, [steps[-1] + half]])


def draw_open_rates(run: Path, out: Path | None) -> str:
    """Draws what a run has logged.

    Args:
        run: Its folder, .log or scalars.json.
        out: Picture to write; beside scalars.json if not given.

    Returns:
        What was drawn, and where it is.

    Raises:
        InputError: If there are no open rates, or the picture cannot be written.
    """
    path = find_scalars(run)
    rows = read_rows(path)
    training, evaluation = read_rates(rows, TRAINING), read_rates(rows, EVALUATION)
    if training is None:
        raise InputError(f'{path} has no open rates of blocks: they are logged every 50 iterations by '
                         "dict(type='mmdyn.DynamicModelHook') for backbones with gates (ConvNet-AIG)")
    out = out or path.with_name('open_rates.png')
    check_output_folder(str(out.parent))
    if evaluation is not None:
        evaluation = evaluation_iterations(evaluation, rows)
    draw(training, evaluation, read_targets(path.with_name('config.py'))).savefig(out, dpi=110)
    last = ', '.join(f'{block} {rate:.2f}' for block, rate in zip(training.blocks, training.values[-1]))
    return f'{len(training.steps)} reports up to iteration {training.steps[-1]}; the last: {last}\npicture: {out}'
