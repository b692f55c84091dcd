"""The account of a dynamic backbone: what each part costs, and what each image has cost."""
import threading
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional.gumbel import straight_through
from ..layers.decisions import Decisions
from .measure import copy_for_counting, count_macs

# What detectors pad to: an image's own size is a multiple of it.
SIZE_DIVISOR = 32
# A size in pixels of which every stride in use is a divisor.
_STRIDE_PROBE = 256
# Counting puts hooks on a copy of the backbone: one thread at a time.
_COUNTING = threading.Lock()


@dataclass(frozen=True)
class Part:
    """A part of a backbone that runs, or does not run, as a whole.

    Attributes:
        name: Module name: of a block that decides (``layer1.0``), else of the backbone's child.
        kind: ``'gate'``, ``'router'``, ``'shortcut'`` (a projection), ``'branch'`` (the rest of a
            block that decides) or ``'static'``.
        macs: Multiply-adds for one image.
        conditional: Whether it runs only where the decision of the block ``name`` says so.
    """

    name: str
    kind: str
    macs: int
    conditional: bool

    @property
    def stage(self) -> str:
        """Name of the backbone's child that it belongs to."""
        return self.name.partition('.')[0]


@dataclass(frozen=True)
class ImageCost:
    """What one image has cost in the backbone, at its own size.

    Attributes:
        macs: Multiply-adds of what the image's decisions let run.
        dense_macs: Multiply-adds of the whole backbone.
        backbone: Class of the backbone.
    """

    macs: int
    dense_macs: int
    backbone: str


class CostAccount:
    """Multiply-adds (MACs) of a dynamic backbone.

    Counted are convolutions and linear layers, those of gates and routers included; not
    normalisation, activation, pooling and the aggregation of a wired stage. The counts are half
    of what ``torch.utils.flop_counter.FlopCounterMode`` sees while the backbone runs, once for
    every input size.

    Args:
        backbone: The dynamic backbone; only its structure matters, weights may change.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self._copy = None
        self._parts: dict[tuple[int, int], tuple[Part, ...]] = {}

    def parts(self, input_size: tuple[int, int]) -> tuple[Part, ...]:
        """The parts in the order they run.

        Args:
            input_size: (H, W) in pixels.
        """
        with _COUNTING:
            if input_size not in self._parts:
                counts, _ = self._run(input_size)
                self._parts[input_size] = _group(counts, self._blocks())
            return self._parts[input_size]

    @property
    def stride(self) -> int:
        """Pixels of the input to a cell of the coarsest feature map."""
        with _COUNTING:
            _, features = self._run((_STRIDE_PROBE, _STRIDE_PROBE))
        return max(_STRIDE_PROBE // maps.shape[2] for maps in features)

    def _run(self, input_size: tuple[int, int]) -> tuple[dict[str, int], tuple[Tensor, ...]]:
        if self._copy is None:
            self._copy = copy_for_counting(self.backbone, 'meta')
        try:
            return count_macs(self._copy, input_size)
        except (NotImplementedError, RuntimeError):
            # Some operator, of a plugin perhaps, needs real numbers. The counts are the same.
            self._copy = copy_for_counting(self.backbone, 'cpu')
            return count_macs(self._copy, input_size)

    def _blocks(self) -> dict[str, set[str]]:
        """Name of every block that is decided about -> what decides, ``gate`` and ``router``."""
        deciders = set(map(id, self.backbone.deciders()))
        blocks: dict[str, set[str]] = {}
        for name, module in self.backbone.named_modules():
            if id(module) in deciders:
                block, _, kind = name.rpartition('.')
                blocks.setdefault(block, set()).add(kind)
        return blocks | {name: {'gate'} for name in self.backbone.followers}

    def dense_macs(self, input_size: tuple[int, int]) -> int:
        """Multiply-adds of one image of this size when everything runs."""
        return sum(part.macs for part in self.parts(input_size))

    def conditional_macs(self, input_size: tuple[int, int]) -> dict[str, int]:
        """Block name -> what an image of this size costs more if the block runs."""
        macs: dict[str, int] = {}
        for part in self.parts(input_size):
            if part.conditional:
                macs[part.name] = macs.get(part.name, 0) + part.macs
        return macs

    @torch.no_grad()
    def images(self, decisions: Decisions) -> list[ImageCost]:
        """What each image has cost, at the size that it would be padded to alone.

        Exact in skipped execution; masked execution computes more than is counted here. The
        decisions are read by the host.
        """
        ran = {name: value.cpu() > 0 for name, value in blocks_run(decisions).items()}
        costs = []
        for n, size in enumerate(own_sizes(decisions)):
            dense = self.dense_macs(size)
            saved = sum(macs for name, macs in self.conditional_macs(size).items()
                        if not ran[name][n])
            costs.append(ImageCost(dense - saved, dense, type(self.backbone).__name__))
        return costs

    def batch_gmacs(self, decisions: Decisions) -> tuple[Tensor, Tensor]:
        """The differentiable form, for losses; nothing is read by the host.

        Every image counts at the padded size of its batch, not at its own, which the device alone
        knows.

        Returns:
            (N,) dynamic and (N,) dense cost in 1e9 multiply-adds, float32; the former with
            gradient to the gates or edges (see :func:`blocks_run`).
        """
        dense = self.dense_macs(decisions.input_size) / 1e9
        macs = self.conditional_macs(decisions.input_size)
        ran = blocks_run(decisions)
        cost = torch.full_like(next(iter(ran.values())), dense - sum(macs.values()) / 1e9)
        for name, count in macs.items():
            cost = cost + ran[name] * (count / 1e9)
        return cost, torch.full_like(cost, dense)


def _group(counts: dict[str, int], blocks: dict[str, set[str]]) -> tuple[Part, ...]:
    parts: dict[tuple[str, str], int] = {}
    stages = {'', *map(_stage, blocks)}
    for name, macs in counts.items():
        if name in stages:
            continue  # its own arithmetic: aggregation and pooling
        key = _part_of(name, blocks)
        parts[key] = parts.get(key, 0) + macs
    # The first node of a wired stage is its input and always runs.
    routed = [block for block, kinds in blocks.items() if 'router' in kinds]
    nodes = {block for before, block in zip(routed, routed[1:]) if _stage(before) == _stage(block)}
    gated = {block for block, kinds in blocks.items() if 'gate' in kinds}
    with_gates = {_stage(block) for block in gated}

    def is_conditional(block: str, kind: str) -> bool:
        # In a stage with gates, what decides always runs; otherwise a node runs with its router.
        return block in nodes | gated and (kind == 'branch' or _stage(block) not in with_gates)

    return tuple(Part(name, kind, macs, is_conditional(name, kind)) for (name, kind), macs in parts.items())


def _stage(block: str) -> str:
    return block.rpartition('.')[0]


def _part_of(module: str, blocks: dict[str, set[str]]) -> tuple[str, str]:
    names = module.split('.')
    for i in range(1, len(names)):
        block = '.'.join(names[:i])
        if block in blocks:
            child = names[i]
            # MMDetection's name of a projection.
            kind = 'shortcut' if child == 'downsample' else child
            return block, kind if kind in {'shortcut', *blocks[block]} else 'branch'
    return names[0], 'static'


def own_sizes(decisions: Decisions) -> list[tuple[int, int]]:
    """The (H, W) that each image would be padded to alone, in pixels; at most its batch's."""
    padded = (decisions.sizes.cpu() + SIZE_DIVISOR - 1) // SIZE_DIVISOR * SIZE_DIVISOR
    limit = torch.tensor(decisions.input_size)
    return [(h, w) for h, w in torch.minimum(padded, limit).tolist()]


def blocks_run(decisions: Decisions) -> dict[str, Tensor]:
    """Which blocks ran, of those that may be left out.

    Returns:
        Block name -> (N,), exactly 1 where it ran for the image and 0 elsewhere, with gradient.
    """
    # Under the policy 'expected' a gate is a probability, and every block runs.
    ran = {name: straight_through((gate > 0).to(gate.dtype), gate)
           for name, gate in decisions.gates.items()}
    for stage, adjacency in decisions.adjacency.items():
        for node in range(1, adjacency.shape[1] - 1):
            name = f'{stage}.{node}'
            runs = _node_runs(adjacency, node)
            # Where a node has a gate, what it costs is the gate's to answer for.
            ran[name] = straight_through(ran[name] * runs, ran[name]) if name in ran else runs
    return ran


def _node_runs(adjacency: Tensor, node: int) -> Tensor:
    """(N,): whether any edge into the node is open; dead nodes have no open edges.

    The product over closed edges that this is has no gradient as soon as two edges are open.
    Straight through go instead, at the full cost of the node, the edges that keep it alive: all
    have to close for it to die. Where it is dead, any edge may wake it, so all of them go.
    """
    incoming = adjacency[:, :node, node]
    is_open = incoming > 0
    alive = is_open.any(dim=1, keepdim=True)
    return straight_through(alive.squeeze(1).to(incoming.dtype),
                            torch.where(is_open | ~alive, incoming, 0).sum(dim=1))
