"""The figures of the report on routes; each function returns one. Colours are safe for colour-blind readers."""
from collections.abc import Sequence
from typing import Optional

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .route_dump import RouteDump
from .route_statistics import GroupTest

BLUE, ORANGE, GREY = '#0072B2', '#D55E00', '#999999'
# Object counts from each of these up to the next share a box.
COUNT_BINS = (0, 1, 2, 3, 5, 9, 17)


def draw_cost(dump: RouteDump) -> Figure:
    """How the images' compute is distributed."""
    figure = Figure(figsize=(7, 2.8), layout='constrained')
    axes = figure.subplots()
    ratio = dump.gmacs / dump.dense_gmacs
    axes.hist(ratio, bins=60, color=BLUE)
    axes.axvline(ratio.mean(), color=ORANGE, label=f'mean {ratio.mean():.2f}')
    axes.set(xlabel='dynamic cost / dense cost of an image', ylabel='images')
    axes.legend(frameon=False)
    return figure


def draw_heatmap(rates: np.ndarray, mean: np.ndarray, units: Sequence[str], classes: Sequence[str]) -> Figure:
    """Open rates of units and classes, and how far they are from the rate over all images.

    Args:
        rates: (C, U).
        mean: (U,) open rates over all images.
        units: U names.
        classes: C names.
    """
    stacked = len(classes) > 30
    width, height = 0.22 * len(classes) + 1.8, 0.17 * len(units) + 1.4
    figure = Figure(figsize=(max(width, 5), 2 * height) if stacked else (2 * max(width, 4), height),
                    layout='constrained')
    left, right = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    difference = (rates - mean).T
    limit = max(float(np.abs(difference).max()), 0.01)
    for axes, values, title, options in (
            (left, rates.T, 'open rate', dict(cmap='cividis', vmin=0, vmax=1)),
            (right, difference, 'open rate, less that over all images', dict(cmap='PuOr', vmin=-limit, vmax=limit))):
        # imshow would resample to every pixel of the figure, in floats: 100 MB for 60 units and 80 classes.
        picture = axes.pcolormesh(values, **options)
        axes.invert_yaxis()
        axes.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=60, ha='right', rotation_mode='anchor',
                        fontsize=8)
        axes.set_yticks(np.arange(len(units)) + 0.5, units, fontsize=7)
        axes.set_title(title, fontsize=10)
        figure.colorbar(picture, ax=axes, fraction=0.04)
    return figure


def draw_blocks_per_class(means: np.ndarray, errors: np.ndarray, classes: Sequence[str], counts: np.ndarray,
                          what: str) -> Figure:
    """Means with error bars (C,) of the images of each class."""
    figure = Figure(figsize=(7, 0.22 * len(classes) + 1.2), layout='constrained')
    axes = figure.subplots()
    axes.errorbar(means, range(len(means)), xerr=errors, fmt='o', color=BLUE, ecolor=GREY)
    axes.set_yticks(range(len(means)), [f'{name} ({count})' for name, count in zip(classes, counts)], fontsize=8)
    axes.set_xlabel(what)
    axes.grid(axis='x', alpha=0.3)
    axes.set_ylim(-0.6, len(means) - 0.4)
    return figure


def draw_contact_sheet(dump: RouteDump, rows: Sequence[tuple[str, np.ndarray]], columns: int) -> tuple[Figure, int]:
    """Rows of images under a heading; also the number of files that could not be read."""
    lines = [(name if start == 0 else '', own[start:start + columns])
             for name, own in rows for start in range(0, len(own), columns)]
    figure = Figure(figsize=(1.15 * columns, 1.42 * len(lines)), layout='constrained')
    missing = 0
    for line, axes_of_line in zip(lines, figure.subplots(len(lines), columns, squeeze=False)):
        name, indices = line
        axes_of_line[0].set_title(name, loc='left', fontsize=9)
        for axes, index in zip(axes_of_line, indices):
            image = _thumbnail(dump.paths[index])
            if image is None:
                missing += 1
                axes.text(0.5, 0.5, 'file not\nfound', ha='center', va='center', transform=axes.transAxes, fontsize=7)
            else:
                axes.imshow(image)
            axes.set_xlabel(f'{dump.gmacs[index]:.3g} GMACs', fontsize=7, labelpad=2)
        for axes in axes_of_line:
            axes.set(xticks=[], yticks=[])
        for axes in axes_of_line[len(indices):]:
            axes.set_axis_off()
    return figure, missing


def _thumbnail(path: Optional[str]) -> Optional[np.ndarray]:
    try:
        with Image.open(path) as image:
            image = image.convert('RGB')
    except (OSError, AttributeError):  # no file, no picture, or no path
        return None
    image.thumbnail((128, 128))
    return np.asarray(image)


def draw_clusters(routes: np.ndarray, assignment: np.ndarray, units: Sequence[str], gmacs: np.ndarray,
                  shares: Optional[np.ndarray], classes: Sequence[str]) -> Figure:
    """Open rates of each cluster's units and, where classes are known, (K, C) class shares of its images."""
    numbers = range(assignment.max() + 1)
    names = [f'{k + 1}: {(assignment == k).sum()} images, {gmacs[assignment == k].mean():.3g} GMACs' for k in numbers]
    rates = np.array([routes[assignment == k].mean(axis=0) for k in numbers])
    panels: list[tuple] = [('open rate of each unit', rates, units, 1)]
    if shares is not None:
        panels.append(('share of the classes in each cluster', shares, classes, None))
    height = 0.3 * len(names) + 1.5
    figure = Figure(figsize=(min(max(0.2 * len(units), 8), 18), height * len(panels)), layout='constrained')
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, values, labels, top) in zip(rows, panels):
        picture = axes.imshow(values, aspect='auto', cmap='cividis', vmin=0, vmax=top, interpolation='nearest')
        axes.set_yticks(numbers, names, fontsize=8)
        every = -(-len(labels) // 60)
        axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=60, ha='right', rotation_mode='anchor',
                        fontsize=7)
        axes.set_title(title, fontsize=10)
        figure.colorbar(picture, ax=axes, fraction=0.03)
    return figure


def draw_information(bits: np.ndarray, chance: np.ndarray, units: Sequence[str]) -> Figure:
    """(U,) bits of each unit, beside the (U,) bits that 95 % of random classes stay below."""
    figure = Figure(figsize=(min(max(0.2 * len(units), 6), 18), 3), layout='constrained')
    axes = figure.subplots()
    axes.bar(range(len(units)), bits, color=BLUE, label='measured')
    axes.plot(range(len(units)), chance, '_', color=ORANGE, ms=9, mew=2, label='95 % of random classes stay below')
    every = -(-len(units) // 70)
    axes.set_xticks(range(0, len(units), every), units[::every], rotation=60, ha='right', rotation_mode='anchor',
                    fontsize=7)
    axes.set_ylabel('bits about the class')
    axes.margins(x=0.01)
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_objects(dump: RouteDump) -> Figure:
    """Compute against the number of objects, and against their mean size."""
    figure = Figure(figsize=(10, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    ratio = dump.gmacs / dump.dense_gmacs
    bins = np.searchsorted(COUNT_BINS, dump.objects, side='right') - 1
    filled = [b for b in range(len(COUNT_BINS)) if (bins == b).any()]
    left.boxplot([ratio[bins == b] for b in filled], flierprops=dict(ms=2), medianprops=dict(color=ORANGE))
    left.set_xticks(range(1, len(filled) + 1), [f'{_bin_name(b)}\n({(bins == b).sum()})' for b in filled], fontsize=8)
    left.set(xlabel='objects in the image (images)', ylabel='dynamic / dense cost')
    held = ~np.isnan(dump.areas)
    cells = right.hexbin(np.sqrt(dump.areas[held]), ratio[held], gridsize=40, mincnt=1, cmap='cividis_r')
    figure.colorbar(cells, ax=right, label='images', ticks=MaxNLocator(integer=True), fraction=0.04)
    right.set_xlabel("square root of the objects' mean area, pixels")
    return figure


def _bin_name(b: int) -> str:
    low = COUNT_BINS[b]
    if b + 1 == len(COUNT_BINS):
        return f'{low} or more'
    high = COUNT_BINS[b + 1] - 1
    return str(low) if low == high else f'{low} to {high}'


def draw_groups(rates: np.ndarray, units: Sequence[str], names: Sequence[str], test: GroupTest) -> Figure:
    """(2, U) mean open rates of two groups of images, unit by unit."""
    figure = Figure(figsize=(min(max(0.22 * len(units), 7), 18), 3), layout='constrained')
    axes = figure.subplots()
    x = np.arange(len(units))
    axes.vlines(x, rates.min(axis=0), rates.max(axis=0), color=GREY)
    for own, name, count, colour, marker in zip(rates, names, test.sizes, (BLUE, ORANGE), 'os'):
        axes.plot(x, own, marker, color=colour, label=f'{name} ({count} images)', ms=5)
    every = -(-len(units) // 70)
    axes.set_xticks(x[::every], units[::every], rotation=60, ha='right', rotation_mode='anchor', fontsize=7)
    axes.set(xlim=(-0.6, len(units) - 0.4), ylabel='open rate', ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=8)
    return figure
