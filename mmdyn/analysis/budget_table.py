"""What a sweep has found, as curves, as a table, and in words."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

CONTROLS = {'fixed': 'fixed decisions', 'random': 'random decisions'}


@dataclass(frozen=True)
class Row:
    """The evaluations at one value of the knob.

    Attributes:
        value: Of the knob.
        budget: Share of the dense cost that it is to meet; None where the value was given.
        own: Point of the network's own decisions: ``ratio`` to dense, ``gmacs``, ``metrics``.
        fixed: The same of decisions that are the same for all images, with the ``closed`` gates; None if not evaluated.
        random: The same of the own routes, dealt to the images at random; None if not evaluated.
    """
    value: float
    budget: Optional[float]
    own: dict[str, Any]
    fixed: Optional[dict[str, Any]] = None
    random: Optional[dict[str, Any]] = None


def curve(rows: Sequence[Row], kind: str, accuracy: str) -> list[tuple[float, float]]:
    """(GMACs, accuracy) of the points of one kind, by GMACs; a control ends in the network with everything open."""
    points = [getattr(row, kind) or (row.own if row.own['ratio'] == 1 else None) for row in rows]
    return sorted({(point['gmacs'], point['metrics'][accuracy]) for point in points if point is not None})


def table(rows: Sequence[Row], knob: str, accuracy: str) -> str:
    """One line an evaluation."""
    lines = [f'\n{"budget":>8}{knob:>18}  {"decisions":<10}{"ratio":>8}{"GMACs":>9}  {accuracy}']
    for row in rows:
        head = f'{"-" if row.budget is None else f"{row.budget:.3f}":>8}{row.value:>18.6g}'
        for kind in ('own', *CONTROLS):
            if (point := getattr(row, kind)) is None:
                continue
            closed = f'  without {", ".join(point["closed"]) or "none"}' if 'closed' in point else ''
            lines.append(f'{head:<26}  {kind:<10}{point["ratio"]:>8.3f}{point["gmacs"]:>9.4f}  '
                         f'{point["metrics"][accuracy]:.4f}{closed}')
            head = ''
    return '\n'.join(lines)


def advantages(rows: Sequence[Row], kind: str, accuracy: str) -> list[float]:
    """How much more accurate the network's own decisions are than a control, at each value where there is one.

    At equal compute: the control's accuracy is read off its curve, by straight lines between its points.
    """
    gmacs, accuracies = zip(*curve(rows, kind, accuracy))
    own = {row.value: row.own for row in rows if getattr(row, kind) is not None}
    return [point['metrics'][accuracy] - float(np.interp(point['gmacs'], gmacs, accuracies)) for point in own.values()]


def judge(gains: Sequence[float]) -> str:
    """What the advantages at some budgets say: more, or less, by more than two standard errors of their mean."""
    if len(gains) < 2:
        return 'one budget does not tell what they are worth beside'
    mean, error = np.mean(gains), np.std(gains, ddof=1) / len(gains)**0.5
    return f'they are worth {"more than" if mean > 2 * error else "less than" if mean < -2 * error else "no more than"}'


def verdict(rows: Sequence[Row], accuracy: str) -> str:
    """Whether the decisions are worth more than the controls, and by how much."""
    if not any(row.fixed for row in rows):
        return '\nEvery gate was open for every image: nothing was decided that could be compared.'
    lines = ["\nThe network's own decisions, at equal compute:"]
    for kind, name in CONTROLS.items():
        gains = advantages(rows, kind, accuracy)
        lines.append(f'  {judge(gains)} {name}: {accuracy} {np.mean(gains):+.4f} on average ({min(gains):+.4f} to '
                     f'{max(gains):+.4f}), better at {sum(gain > 0 for gain in gains)} of {len(gains)} budgets')
    return '\n'.join(lines)
