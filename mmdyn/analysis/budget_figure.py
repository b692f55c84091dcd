"""Accuracy over compute of one checkpoint at many budgets, beside networks measured elsewhere."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Reference(NamedTuple):
    """A network measured elsewhere, to compare with."""
    name: str
    gmacs: float
    accuracy: float


def reference(text: str) -> Reference:
    """``NAME=GMACS,ACCURACY``; a ValueError, as argparse wants it, for anything else."""
    name, values = text.rsplit('=', 1)
    gmacs, accuracy = map(float, values.split(','))
    return Reference(name, gmacs, accuracy)


def draw(points: list[dict[str, Any]], knob: str, accuracy: str, budget: float | None, path: Path, *,
         static: Sequence[Reference] = (), others: Sequence[Reference] = ()) -> None:
    """Draws the curve; over GMACs, beside what it is compared with."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    figure, axes = plt.subplots(figsize=(7, 5), layout='constrained')
    label = f'one checkpoint (numbers: {knob.replace("_", " ")})'
    curve = [(point['gmacs'], point['metrics'][accuracy]) for point in points]
    # Okabe and Ito's colours, which the colour-blind tell apart; and a marker each.
    axes.plot(*zip(*curve), marker='o', color='#0072B2', label=label)
    for point, place in zip(points, curve):
        axes.annotate(f'{point["value"]:.3g}', place, textcoords='offset points', xytext=(4, -10), fontsize=7)
    for references, style, name in ((static, 's--', 'static'), (others, 'D', 'dynamic')):
        if references:
            axes.plot([r.gmacs for r in references], [r.accuracy for r in references], style,
                      color='#D55E00' if references is static else '#009E73', label=name)
        for r in references:
            axes.annotate(r.name, (r.gmacs, r.accuracy), textcoords='offset points', xytext=(4, 6), fontsize=8)
    if budget is not None:
        axes.axvline(budget * points[0]['gmacs'] / points[0]['ratio'], linestyle=':', color='grey')
    axes.set(xlabel='GMACs of the backbone per image', ylabel=accuracy, title='accuracy over compute')
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)  # room for the names
    figure.legend(loc='outside lower center', ncols=3)  # where it hides no point
    figure.savefig(path, dpi=120)
    plt.close(figure)
