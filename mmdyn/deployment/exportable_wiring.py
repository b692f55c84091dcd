"""Wired stages as ONNX can express them: each node that may be left out is behind a branch of its own."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..backbones.dg_backbone import DGBackbone
from ..layers.decisions import Decisions
from ..layers.residual import Residual
from ..layers.wired_stage import WiredBlock, WiredStage
from ..layers.wiring import Wiring
from .export_pass import ExportPass, pool_cells
from .exportable_backbone import ExportableBackbone, Features, close, run_if
from .operators import read


class ExportableDG(ExportableBackbone):
    """Wired stages: a node that no edge reaches does not run, nor its router, nor does it read anything."""

    backbone: DGBackbone

    def __call__(self, images: Tensor) -> tuple[Features, dict[str, Tensor], Decisions]:
        forward_pass = ExportPass.begin(self.backbone, images)
        ran: dict[str, Tensor] = {}

        def run_stage(stage: nn.Module, x: Tensor) -> Tensor:
            if not isinstance(stage, WiredStage):
                return stage(x)
            nodes = Nodes(stage, x, forward_pass, skip=self.skip)
            ran.update((block.name_in_backbone, nodes.run(block)) for block in stage if block.node > 0)
            return nodes.output()

        return self.backbone.run_stages(images, run_stage), ran, forward_pass.decisions

    def block_names(self) -> list[str]:
        return [name for name, block in self.backbone.blocks() if block.node > 0]


class Rows(Wiring):
    """A wiring that is read from its rows alone: nothing needs the matrix, which a graph would copy for each of them."""

    def _reached(self, i: int) -> Tensor:
        return (self.into(i) > 0).any(dim=1).to(self.values.dtype)


class Nodes:
    """The nodes of a wired stage in one forward. The first, its input, always runs, as a whole block.

    Args:
        stage: Whose blocks they are.
        x: (N, C, H, W), what it reads.
        forward_pass: That it is part of, which gets the decisions.
        skip: Put the others behind branches, for one image at a time.
    """

    def __init__(self, stage: WiredStage, x: Tensor, forward_pass: ExportPass, *, skip: bool) -> None:
        self.name, self.whole_blocks, self.rectify = stage.name_in_backbone, stage.whole_blocks, stage.rectify_inputs
        self.gated = any(hasattr(block, 'gate') for block in stage)
        self.forward_pass, self.skip = forward_pass, skip
        self.wiring = Rows(len(stage), x, forward_pass.threshold, forward_pass.forced_adjacency(self.name, len(x)),
                           whole_blocks=stage.whole_blocks, column_bound=stage.column_bound)
        self._averages: list[Tensor] = []  # (N, C) of each node's output, if there are gates to read them
        first = Residual(stage[0])
        branch = first.branch(x)
        self._outputs = [first.activate(branch + first.shortcut(x) if first.has_shortcut else branch)]
        self._cells = forward_pass.cell_weights(self._outputs[0])
        self._route(stage[0], self._summary(stage[0])(self._outputs[0], self._cells))

    def run(self, block: WiredBlock) -> Tensor:
        """Runs the next node; returns (N,), above 0 where its block ran."""
        residual, summary = Residual(block), self._summary(block)
        gate = self._decide(block)
        alive = self.wiring.alive(block.node)
        hands_on = gate is not None and self.whole_blocks  # what it reads, if its gate is shut
        runs = alive * gate if hands_on else alive

        def run(edges: Tensor, cells: Tensor, runs: Tensor, *outputs: Tensor) -> tuple[Tensor, Tensor]:
            x = self._read(edges, outputs)
            y = residual.branch(x)
            if hands_on and not self.skip:
                y = y * runs[:, None, None, None]
            if self.whole_blocks:
                y = residual.activate(y + x)
            return y, summary(y, cells)

        def skip(edges: Tensor, cells: Tensor, runs: Tensor, *outputs: Tensor) -> tuple[Tensor, Tensor]:
            if hands_on:
                y = close(residual, self._read(edges, outputs))
                return y, summary(y, cells)
            # 0 times a map: an exporter would keep a map of zeros in the file.
            return read(runs[:, None] * 0, outputs[:1]), edges.new_zeros(len(edges), self._width(block))

        operands = (self._edges(block.node), self._cells, runs, *self._outputs)
        y, summarised = run_if(runs, run, skip, *operands) if self.skip else run(*operands)
        self._outputs.append(y)
        self._route(block, summarised)
        return runs

    def output(self) -> Tensor:
        """(N, C, H, W): what the stage hands on, when all nodes have run."""
        self.wiring.decide_output()
        self.forward_pass.keep_adjacency(self.name, self.wiring.adjacency())
        return self._read(self._edges(self.wiring.nodes), self._outputs)

    def _decide(self, block: WiredBlock) -> Tensor | None:
        if not hasattr(block, 'gate'):
            return None
        pooled = self.wiring.average(block.node, self._averages)
        self.wiring.gates[block.node] = self.forward_pass.decide_from(block.name_in_backbone, block.gate, pooled)
        return self.wiring.gates[block.node]

    def _summary(self, block: WiredBlock) -> Callable[[Tensor, Tensor], Tensor]:
        """What of a node's output is needed outside of its branch: its average if gates read that, or what routers say."""
        return pool_cells if self.gated else lambda y, cells: block.router(pool_cells(y, cells))

    def _width(self, block: WiredBlock) -> int:
        return block.router.in_features if self.gated else block.router.out_features

    def _route(self, block: WiredBlock, summarised: Tensor) -> None:
        if self.gated:
            self._averages.append(summarised)
            summarised = block.router(summarised)
        self.wiring.decide(block.node, summarised)

    def _edges(self, j: int) -> Tensor:
        """(N, J) weights of what vertex j reads."""
        edges, scale = self.wiring.into(j), self.wiring.scales.get(j)
        return edges if scale is None else edges * scale[:, None]

    def _read(self, edges: Tensor, outputs: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        x = read(edges, list(outputs))
        return torch.relu(x) if self.rectify else x
