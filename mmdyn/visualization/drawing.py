"""Draws the inference graph of an image beside the image."""
from typing import Optional

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from .inference_graph import InferenceGraph, Stage
from .labels import place_labels
from .prediction import Prediction
from .wired_stage import draw_matrix, draw_wires, edge_colour

# Of Okabe and Ito's palette, which people with any kind of colour vision can tell apart.
RUN, FAINT, DARK = '#0072B2', '#999999', '#333333'
BOX_COLOURS = ('#E69F00', '#56B4E9', '#F0E442', '#CC79A7', '#009E73', '#D55E00')
_DPI = 100
_LABEL_PADDING = 0.8  # points around the text of a label
# Widths in inches: of the column of the image; the least and the most for the blocks, or for the nodes with their arcs,
# where the headings need the least; of the matrix beside them.
_LEFT, _LEAST, _MOST, _MATRIX = 3.4, 2.5, 9.0, 2.2
_LEAST_WIRED, _MOST_WIRED, _NODE = 3.6, 6.8, 0.72
# Height in inches of a strip of blocks, of a wired stage, and of one with more nodes than _FEW.
_STRIP, _WIRED, _LARGE, _FEW = 0.85, 1.6, 3.4, 8


def draw_inference_graph(graph: InferenceGraph,
                         image: np.ndarray,
                         prediction: Optional[Prediction] = None,
                         *,
                         title: str = '') -> np.ndarray:
    """Draws an image with its detections, what it cost, and stage by stage what it ran.

    A ConvNet-AIG is drawn as strips of blocks run or skipped. A wired stage is drawn twice: as
    nodes with arcs for the edges, of which large stages show the strongest into each node, and as
    the matrix of all its weights. Needs no display.

    Args:
        graph: Of that image.
        image: (H, W, 3) RGB, uint8.
        prediction: What to draw onto the image and below it.
        title: Name of the image, say.

    Returns:
        (H', W', 3) RGB, uint8.

    Raises:
        ValueError: For an image of another form.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError('image must be (H, W, 3) RGB of uint8, got '
                         f'{image.shape} of {image.dtype}')
    heights = [_height(stage) for stage in graph.stages]
    widest = max(len(stage.blocks) for stage in graph.stages)
    arcs_width = min(_MOST_WIRED, max(_LEAST_WIRED, _NODE * (widest + 1.2)))
    wired = _is_wired(graph)
    right = arcs_width + _MATRIX if wired else min(_MOST, max(_LEAST, widest))
    width, total = _LEFT + 0.4 + right, max(sum(heights) + 0.7, 5.2)
    figure = Figure(figsize=(width, total), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    _draw_left(figure, graph, image, prediction or Prediction(), title)
    grid = GridSpec(len(heights), 1, figure, height_ratios=heights, hspace=0.15,
                    left=(_LEFT + 0.3) / width, right=1 - 0.1 / width, top=1 - 0.25 / total,
                    bottom=0.25 / total)
    for i, stage in enumerate(graph.stages):
        cell = grid[i]
        if stage.adjacency is None:
            _draw_strip(figure.add_subplot(cell), stage, widest)
        else:
            arcs, matrix = cell.subgridspec(1, 2, width_ratios=(arcs_width, _MATRIX), wspace=0.05)
            draw_wires(figure.add_subplot(arcs), stage, RUN, few=_FEW, room=min(widest, _FEW))
            draw_matrix(figure.add_subplot(matrix), stage)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _is_wired(graph: InferenceGraph) -> bool:
    return any(stage.adjacency is not None for stage in graph.stages)


def _height(stage: Stage) -> float:
    if stage.adjacency is None:
        return _STRIP
    return _WIRED if len(stage.blocks) <= _FEW else _LARGE


def _draw_left(figure: Figure, graph: InferenceGraph, image: np.ndarray, prediction: Prediction,
               title: str) -> None:
    """The column of the picture, the cost and the legend."""
    width, total = figure.get_size_inches()
    grid = GridSpec(3, 1, figure, height_ratios=(2.9, 0.32, 1.2), hspace=0.4, left=0.2 / width,
                    right=_LEFT / width, top=1 - 0.35 / total, bottom=1 - 5.1 / total)
    _draw_image(figure.add_subplot(grid[0]), image, prediction, title)
    _draw_cost(figure.add_subplot(grid[1]), graph)
    legend = figure.add_subplot(grid[2])
    legend.set_axis_off()
    legend.legend(handles=_legend(graph), loc='upper left', frameon=False, fontsize=9,
                  borderaxespad=0, handlelength=1.8)


def _draw_image(axes: Axes, image: np.ndarray, prediction: Prediction, title: str) -> None:
    axes.set_anchor('NW')
    axes.imshow(image, interpolation='nearest' if max(image.shape) < 100 else 'antialiased')
    axes.apply_aspect()  # before which nothing has a size in pixels of the image
    labels = []
    for box, text, kind in zip(prediction.boxes, prediction.texts, prediction.kinds):
        colour = BOX_COLOURS[kind % len(BOX_COLOURS)]
        x1, y1, x2, y2 = box
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.8))
        labels.append(axes.text(0, 0, text, fontsize=6.5, va='top', color='black', clip_on=True,
                                bbox=dict(fc=colour, ec='none', pad=_LABEL_PADDING, alpha=0.85)))
    for label, position in zip(labels, place_labels(prediction.boxes, _label_sizes(axes, labels), image.shape[:2])):
        label.set_position(position)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title if len(title) <= 40 else f'...{title[-37:]}', fontsize=9, loc='left')
    axes.set_xlabel(prediction.caption, fontsize=9, loc='left')


def _label_sizes(axes: Axes, labels: list[Text]) -> np.ndarray:
    """(K, 2) widths and heights in pixels of the image, with their padding."""
    extents = [label.get_window_extent() for label in labels]
    padding = 2 * _LABEL_PADDING * _DPI / 72
    sizes = np.array([(extent.width + padding, extent.height + padding) for extent in extents]).reshape(-1, 2)
    scale = axes.transData.transform([[0, 0], [1, 0]])
    return sizes / (scale[1, 0] - scale[0, 0])


def _draw_cost(axes: Axes, graph: InferenceGraph) -> None:
    gmacs, dense = graph.cost.macs / 1e9, graph.cost.dense_macs / 1e9
    axes.barh(0, dense, color='white', ec=FAINT, height=0.8)
    axes.barh(0, gmacs, color=RUN, height=0.8)
    axes.set(xlim=(0, dense), ylim=(-0.5, 0.5))
    axes.set_axis_off()
    axes.set_title(f'{gmacs:.3g} of {dense:.3g} GMACs: {gmacs / dense:.0%} of dense',
                   fontsize=10, loc='left', pad=3)


def _legend(graph: InferenceGraph) -> list[Artist]:
    always = any(not block.optional for block in graph.blocks)
    if not _is_wired(graph):
        handles: list[Artist] = [Patch(fc=RUN, ec=RUN, label='block that ran'),
                                 Patch(fc='white', ec=FAINT, hatch='////', label='block that was skipped')]
        return handles + [Patch(fc=DARK, ec=DARK, label='block that always runs')] * always
    return [
        _dot(RUN, RUN, 'node that ran'),
        *[_dot(DARK, DARK, 'node that always runs')] * always,
        _dot('white', FAINT, 'node that did not run'),
        Line2D([], [], color=edge_colour(0.9), lw=2.6, label='edge of high weight'),
        Line2D([], [], color=edge_colour(0.3), lw=1.0, label='edge of low weight'),
        Patch(fc='white', ec=FAINT, label='closed edge (white in the matrix)'),
    ]


def _dot(face: str, edge: str, label: str) -> Line2D:
    return Line2D([], [], ls='', marker='o', ms=9, mfc=face, mec=edge, label=label)


def _draw_strip(axes: Axes, stage: Stage, widest: int) -> None:
    """Squares, run or skipped; stages share one scale, so that longer ones look longer."""
    for i, block in enumerate(stage.blocks):
        ran = dict(fc=RUN if block.optional else DARK, ec='none')
        skipped = dict(fc='white', ec=FAINT, hatch='////', lw=0.8)
        axes.add_patch(Rectangle((i + 0.06, 0), 0.88, 1, **(ran if block.ran else skipped)))
        axes.text(i + 0.5, -0.12, block.name.rpartition('.')[2], ha='center', va='top', fontsize=8, color=DARK)
    count = sum(block.ran for block in stage.blocks)
    axes.set(xlim=(0, max(widest, _LEAST)), ylim=(-0.45, 1.02))
    axes.set_axis_off()
    axes.set_title(f'{stage.name}: {count} of {len(stage.blocks)} blocks ran', fontsize=10,
                   loc='left', pad=2)
