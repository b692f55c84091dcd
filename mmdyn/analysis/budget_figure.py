"""Accuracy over compute of one checkpoint at many budgets, beside controls and networks measured elsewhere."""
import math
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from .budget_table import CONTROLS, Row, curve

# Okabe and Ito's colours, which the colour-blind tell apart; and a marker each.
STYLES: dict[str, dict[str, Any]] = {
    'own': dict(marker='o', color='#0072B2'),
    'fixed': dict(marker='^', ls='--', color='#CC79A7'),
    'random': dict(marker='x', ls=':', color='#555555'),
}


class Reference(NamedTuple):
    """A network measured elsewhere, to compare with."""
    name: str
    gmacs: float
    accuracy: float


def reference(text: str) -> Reference:
    """``NAME=GMACS,ACCURACY``; argparse's error for anything else."""
    name, _, values = text.rpartition('=')
    try:
        gmacs, accuracy = map(float, values.split(','))
    except ValueError:
        gmacs = accuracy = math.nan
    if not (name and math.isfinite(gmacs) and math.isfinite(accuracy)):
        raise ArgumentTypeError(f'expected NAME=GMACS,ACCURACY such as ResNet-50=4.1,0.374, got {text!r}')
    return Reference(name, gmacs, accuracy)


def draw(rows: Sequence[Row], knob: str, accuracy: str, path: Path, *, static: Sequence[Reference] = (),
         others: Sequence[Reference] = ()) -> None:
    """Draws the curves over GMACs, beside what they are compared with."""
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    names = {'own': f'own decisions (numbers: {knob.replace("_", " ")})', **CONTROLS}
    for kind, own_style in STYLES.items():
        if any(getattr(row, kind) for row in rows):
            axes.plot(*zip(*curve(rows, kind, accuracy)), label=names[kind], **own_style)
    for value, own in {row.value: row.own for row in rows}.items():
        axes.annotate(f'{value:.3g}', (own['gmacs'], own['metrics'][accuracy]), textcoords='offset points',
                      xytext=(4, -10), fontsize=7)
    for references, style, name in ((static, 's--', 'static'), (others, 'D', 'other networks')):
        if references:
            axes.plot([r.gmacs for r in references], [r.accuracy for r in references], style,
                      color='#D55E00' if references is static else '#009E73', label=name)
        for r in references:
            axes.annotate(r.name, (r.gmacs, r.accuracy), textcoords='offset points', xytext=(4, 6), fontsize=8)
    axes.set(xlabel='GMACs of the backbone per image', ylabel=accuracy, title='accuracy over compute')
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)  # room for the names
    figure.legend(loc='outside lower center', ncols=2)  # where it hides no point
    figure.savefig(path, dpi=120)
