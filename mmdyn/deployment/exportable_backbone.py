"""Backbones as ONNX can express them: decisions by tensors alone, closed blocks and dead nodes behind real branches.

The backbones themselves read their decisions on the host, and whoever traces that keeps the branches that the example
took and drops the others without a word. Here every branch is in the graph: a gated block, or a node of a wired stage
that can die, is one ``torch.cond``, which becomes one `If`.
"""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbones.aig_backbone import AIGBackbone
from ..backbones.dg_backbone import DGBackbone
from ..layers.decisions import Decisions
from ..layers.gated_stage import GatedBlock
from ..layers.residual import Residual
from ..layers.traced_maps import TracedMaps
from ..layers.wired_stage import WiredBlock, WiredStage
from ..layers.wiring import Wiring
from .export_pass import ExportPass, pool_cells
from .operators import read

Features = tuple[Tensor, ...]


class ExportableBackbone:
    """A backbone whose forward is pure: it returns what was decided, beside the feature maps.

    Args:
        backbone: With the weights; it is not changed, and computes the same.
        skip: Leave out what is closed, for one image at a time; otherwise run everything and multiply.
    """

    def __init__(self, backbone: nn.Module, *, skip: bool) -> None:
        self.backbone = backbone
        self.skip = skip

    def __call__(self, images: Tensor) -> tuple[Features, Decisions | None]:
        """(N, C, H, W) -> the feature maps of ``out_indices``, and the decisions; None of a static backbone."""
        return tuple(self.backbone(images)), None

    def block_names(self) -> list[str]:
        """Of the blocks that may be left out, in the order in which they run."""
        return []

    def conditional_blocks(self) -> list[str]:
        """Names of the blocks that are behind branches, in the order in which they run."""
        return self.block_names() if self.skip else []

    def number_of_decisions(self) -> int:
        """How many decisions the branches have between them."""
        return len(self.conditional_blocks())


class ExportableAIG(ExportableBackbone):
    """Gated blocks: a block runs if any image of the batch wants it, and is multiplied by the decision."""

    backbone: AIGBackbone

    def __call__(self, images: Tensor) -> tuple[Features, Decisions | None]:
        backbone = self.backbone
        forward_pass = ExportPass.begin(backbone, images)
        x = backbone.run_stem(images)
        outs = []
        for i, name in enumerate(backbone.stage_names):
            stage = getattr(backbone, name)
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                if isinstance(block, GatedBlock):
                    x = self._run_gated(Residual(block), x, block.decide(x, forward_pass))
                else:
                    x = block(x)
            if i in backbone.out_indices:
                outs.append(x)
        return tuple(outs), forward_pass.decisions

    def block_names(self) -> list[str]:
        return [block.name_in_backbone for _, block in self.backbone.blocks() if isinstance(block, GatedBlock)]

    def number_of_decisions(self) -> int:
        return len(list(self.backbone.deciders())) if self.skip else 0

    def _run_gated(self, residual: Residual, x: Tensor, decision: Tensor) -> Tensor:

        def run(x: Tensor, decision: Tensor) -> Tensor:
            return residual.activate(residual.shortcut(x) + decision[:, None, None, None] * residual.branch(x))

        def skip(x: Tensor, decision: Tensor) -> Tensor:
            # An identity shortcut has been rectified by the block before; a branch must not return its own input.
            return x.clone() if residual.projection is None else residual.activate(residual.shortcut(x))

        return torch.cond(decision.any(), run, skip, (x, decision)) if self.skip else run(x, decision)


class ExportableDG(ExportableBackbone):
    """Wired stages: a node that no image reaches does not run, nor its router, nor does it read anything."""

    backbone: DGBackbone

    def __call__(self, images: Tensor) -> tuple[Features, Decisions | None]:
        backbone = self.backbone
        forward_pass = ExportPass.begin(backbone, images)
        x = backbone.run_stem(images)
        outs = []
        for i, name in enumerate(backbone.stage_names):
            stage = getattr(backbone, name)
            if not isinstance(stage, WiredStage):
                x = stage(x)
            elif self._has_branches(stage):
                x = self._run_wired(stage, x, forward_pass)
            else:
                forward_pass.skips = False
                x = stage(x, forward_pass=forward_pass)
            if i in backbone.out_indices:
                outs.append(x)
        return tuple(outs), forward_pass.decisions

    def block_names(self) -> list[str]:
        return [block.name_in_backbone for _, stage in self.backbone.stages() if self._has_branches(stage)
                for block in stage if block.node > 0]

    def _has_branches(self, stage: WiredStage) -> bool:
        """Whether nodes go behind branches; those with gates, or with bounds on what they read, are masked."""
        return stage.column_bound is None and not any(hasattr(block, 'gate') for block in stage)

    def _run_wired(self, stage: WiredStage, x: Tensor, forward_pass: ExportPass) -> Tensor:
        name = stage.name_in_backbone
        wiring = Wiring(len(stage), x, forward_pass.threshold, forward_pass.forced_adjacency(name, len(x)),
                        whole_blocks=stage.whole_blocks)
        nodes = TracedMaps(wiring.values, forward_pass, whole_blocks=stage.whole_blocks,
                           rectify_inputs=stage.rectify_inputs)
        outputs: list[Tensor] = []
        for j, block in enumerate(stage):
            if j == 0:
                y = block(x, maps=nodes)
                cells = forward_pass.cell_weights(y)
                weights = block.router(pool_cells(y, cells))
            else:
                y, weights = self._run_node(block, nodes, outputs, wiring, cells)
            outputs.append(y)
            wiring.decide(j, weights)
        wiring.decide_output()
        forward_pass.decisions.adjacency[name] = wiring.adjacency()
        return read_edges(outputs, wiring.values[:, :-1, -1], nodes.rectify_inputs)

    def _run_node(self, block: WiredBlock, nodes: TracedMaps, outputs: list[Tensor], wiring: Wiring,
                  cells: Tensor) -> tuple[Tensor, Tensor]:
        """A node's output and the weights that its router gives; zeros of a dead one."""
        j, rectify = block.node, nodes.rectify_inputs

        def run(edges: Tensor, cells: Tensor, *outputs: Tensor) -> tuple[Tensor, Tensor]:
            y = block(read_edges(outputs, edges, rectify), maps=nodes)
            return y, block.router(pool_cells(y, cells))

        def skip(edges: Tensor, cells: Tensor, *outputs: Tensor) -> tuple[Tensor, Tensor]:
            # All edges that lead here are closed: 0 times a map. (An exporter would store a map of constant zeros.)
            return read(edges[:, :1], outputs[:1]), edges.new_zeros(len(edges), block.router.out_features)

        operands = (wiring.values[:, :j, j], cells, *outputs)
        return torch.cond(wiring.alive(j).any(), run, skip, operands) if self.skip else run(*operands)


def read_edges(outputs: Sequence[Tensor], edges: Tensor, rectify: bool) -> Tensor:
    """What a vertex reads: the sum of the J outputs (N, C, h, w) before it, weighed by its (N, J) edges."""
    x = read(edges, list(outputs))
    return torch.relu(x) if rectify else x
