"""Draws a wired stage: its nodes with arcs for the edges, and the matrix of its weights."""
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from .inference_graph import Stage

# With more nodes than a few, arcs of all edges would hide each other; the matrix has them all.
STRONGEST = 2
_FAINT, _DARK = '#999999', '#333333'


def edge_colour(strength: float) -> tuple[float, float, float, float]:
    """RGBA of an edge; ``strength`` is its weight over the largest possible, in [0, 1]."""
    return colormaps['YlOrBr'](0.25 + 0.75 * strength)


def drawn_edges(adjacency: np.ndarray, few: int) -> list[tuple[int, int]]:
    """The open edges i -> j that arcs are drawn for.

    Args:
        adjacency: (n+1, n+1) weights.
        few: Of stages with more nodes only the ``STRONGEST`` edges into each node are drawn.
    """
    edges = []
    for j in range(1, len(adjacency)):
        # Of equal ones, the nearest.
        sources = j - 1 - np.argsort(-adjacency[:j, j][::-1], kind='stable')
        kept = sources if len(adjacency) - 1 <= few else sources[:STRONGEST]
        edges += [(int(i), j) for i in kept if adjacency[i, j] > 0]
    return edges


def draw_wires(axes: Axes, stage: Stage, run_colour: str, *, few: int, room: int) -> None:
    """Nodes on a line and arcs above it, darker and wider the more an edge weighs.

    A node that did not run is hollow. If it is dead, no arcs lead from it; a whole block whose gate is shut hands on what
    it reads, and keeps them.

    Args:
        axes: To draw into.
        stage: A wired one.
        run_colour: Of nodes that ran and could have been left out.
        few: As in :func:`drawn_edges`.
        room: Nodes to leave room for; short stages get as much as longer ones, so that they look shorter.
    """
    adjacency, nodes = stage.adjacency, len(stage.blocks)
    assert adjacency is not None  # a wired stage
    edges = drawn_edges(adjacency, few)
    for i, j in sorted(edges, key=lambda edge: adjacency[edge]):
        strength = float(adjacency[i, j]) / stage.edge_scale
        axes.add_patch(PathPatch(_arc(i, j), fc='none', ec=edge_colour(strength),
                                 lw=0.6 + 2.6 * strength, capstyle='round'))
    for i, block in enumerate(stage.blocks):
        _draw_node(axes, i, str(i), block.ran, run_colour if block.optional else _DARK)
    _draw_node(axes, nodes, 'out', True, _DARK)
    spans = [j - i for i, j in edges]
    axes.set(xlim=(-0.6, max(nodes, room) + 0.6),
             ylim=(-0.8, 1.05 * _rise(max(spans, default=1)) + 0.8))
    axes.set_axis_off()
    ran, is_open = sum(block.ran for block in stage.blocks), int((adjacency > 0).sum())
    shown = '' if len(edges) == is_open else f'; drawn: the {STRONGEST} strongest into each node'
    axes.set_title(f'{stage.name}: {ran} of {nodes} nodes ran, {is_open} of '
                   f'{nodes * (nodes + 1) // 2} edges open{shown}', fontsize=10, loc='left', pad=2)


def draw_matrix(axes: Axes, stage: Stage) -> None:
    """Weight of every open edge, from a row's node to a column's; closed ones are left white."""
    assert stage.adjacency is not None  # a wired stage
    size = len(stage.adjacency)
    rows, columns = np.indices((size, size))
    pixels = colormaps['YlOrBr'](0.25 + 0.75 * stage.adjacency / stage.edge_scale)
    pixels[stage.adjacency <= 0] = 1.0
    pixels[rows >= columns] = (0.93, 0.93, 0.93, 1.0)
    axes.imshow(pixels, interpolation='nearest')
    every = max(1, size // 6)
    ticks = [i for i in range(0, size - 1, every) if i < size - 1 - every / 2]
    axes.set_xticks([*ticks, size - 1], [*map(str, ticks), 'out'], fontsize=7)
    axes.set_yticks(ticks, map(str, ticks), fontsize=7)
    axes.tick_params(length=0, pad=1)
    axes.xaxis.tick_top()
    axes.set_ylabel('edge from row to column', fontsize=7, labelpad=1)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _rise(span: int) -> float:
    """Height of an arc in node distances: less than in proportion, or long ones would tower."""
    return 0.0 if span <= 1 else 0.55 * span**0.75


def _arc(i: int, j: int) -> Path:
    # A cubic curve reaches three quarters of the height of its control points.
    height = _rise(j - i) * 4 / 3
    return Path([(i, 0), (i, height), (j, height), (j, 0)],
                [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def _draw_node(axes: Axes, x: int, text: str, ran: bool, colour: str) -> None:
    style = dict(mfc=colour, mec='white') if ran else dict(mfc='white', mec=_FAINT, mew=0.8)
    axes.plot(x, 0, 'o', ms=16, zorder=3, clip_on=False, **style)
    axes.text(x, -0.03, text, ha='center', va='center', fontsize=7, zorder=4,
              color='white' if ran else _FAINT)
