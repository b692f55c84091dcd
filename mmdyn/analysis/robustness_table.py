"""What attacks and corruptions did, as a table and as a figure."""
from collections.abc import Sequence
from dataclasses import asdict
from typing import Union

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import adversarial, corrupted

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')
HEADINGS = dict(model='model', attack='attack', corruption='corruption', epsilon='epsilon x 255', severity='severity',
                jpeg='JPEG', accuracy='accuracy %', ap='AP', ratio='of dense %', changed='decisions changed %',
                rerouted='images rerouted %')

Rows = Sequence[Union[adversarial.Row, corrupted.CorruptedRow]]


def table(rows: Rows) -> str:
    """In Markdown; a dash where a static model has nothing to tell."""
    columns = list(asdict(rows[0]))
    lines = ['| ' + ' | '.join(HEADINGS[column] for column in columns) + ' |', '|' + '---|' * len(columns)]
    lines += ['| ' + ' | '.join(_cell(column, getattr(row, column)) for column in columns) + ' |' for row in rows]
    return '\n'.join(lines)


def _cell(column: str, value: Union[None, bool, float, str]) -> str:
    if value is None:
        return '-'
    if column in ('accuracy', 'ratio', 'changed', 'rerouted'):
        return f'{100 * value:.1f}'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.3f}' if column == 'ap' else f'{value:g}' if isinstance(value, (int, float)) else value


def draw(rows: Rows) -> Figure:
    """Accuracy, compute and changed routes against the strength of each attack or corruption; a row has one scale."""
    attacked = isinstance(rows[0], adversarial.Row)
    kind, strength, score = ('attack', 'epsilon', 'accuracy') if attacked else ('corruption', 'severity', 'ap')
    names = {score: 'accuracy' if attacked else 'AP', 'ratio': 'dynamic / dense cost', 'changed': 'decisions changed'}
    kinds = [own for own in dict.fromkeys(getattr(row, kind) for row in rows) if own != 'none']
    strengths = sorted({getattr(row, strength) for row in rows})
    figure = Figure(figsize=(max(2.6 * len(kinds), 5), 7), layout='constrained')
    panels = figure.subplots(len(names), len(kinds), sharex=True, sharey='row', squeeze=False)
    for axes_of_row, value in zip(panels, names):
        for axes, own in zip(axes_of_row, kinds):
            _draw_lines(axes, [row for row in rows if getattr(row, kind) in (own, 'none')], strength, value)
        # Only now: a limit that is set ends the scaling, which the panels of a row share.
        axes_of_row[0].set(ylabel=names[value], ylim=(0, 1.03 if value == 'ratio' else None))
    for own, top, bottom in zip(kinds, panels[0], panels[-1]):
        top.set_title(own.replace('_', ' '), fontsize=10)
        bottom.set(xlabel='epsilon x 255' if attacked else 'severity', xticks=strengths)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _draw_lines(axes: Axes, rows: Rows, strength: str, value: str) -> None:
    """A line for each model, and a dashed one for it on recompressed images."""
    for model, colour in zip(dict.fromkeys(row.model for row in rows), COLOURS):
        for jpeg in (False, True):
            points = [(getattr(row, strength), getattr(row, value)) for row in rows
                      if row.model == model and getattr(row, 'jpeg', False) == jpeg and getattr(row, value) is not None]
            if points:
                axes.plot(*zip(*points), '--s' if jpeg else '-o', color=colour, ms=4,
                          label=f'{model}, JPEG' if jpeg else model)
