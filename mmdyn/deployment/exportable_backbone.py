"""Backbones as ONNX can express them: decisions by tensors alone, closed blocks behind real branches.

The backbones themselves read their decisions on the host, and whoever traces that keeps the branches that the example
took and drops the others without a word. Here every branch is in the graph, one ``torch.cond`` for each block that may
be left out, which becomes one `If`.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..backbones.aig_backbone import AIGBackbone
from ..layers.decisions import Decisions
from ..layers.gated_stage import GatedBlock
from ..layers.residual import Residual
from .export_pass import ExportPass

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

    def __call__(self, images: Tensor) -> tuple[Features, dict[str, Tensor], Decisions | None]:
        """(N, C, H, W) -> the feature maps of ``out_indices``, what ran, and the decisions.

        What ran is block name -> (N,), above 0 where it ran, of the blocks that may be left out. A static backbone has
        neither.
        """
        return tuple(self.backbone(images)), {}, None

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
    """Gated blocks: ``activation(shortcut(x) + decision * branch(x))``, the branch behind an `If`."""

    backbone: AIGBackbone

    def __call__(self, images: Tensor) -> tuple[Features, dict[str, Tensor], Decisions]:
        forward_pass = ExportPass.begin(self.backbone, images)

        def run_stage(stage: nn.Module, x: Tensor) -> Tensor:
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                x = self._run_gated(block, x, forward_pass) if isinstance(block, GatedBlock) else block(x)
            return x

        return self.backbone.run_stages(images, run_stage), dict(forward_pass.decisions.gates), forward_pass.decisions

    def block_names(self) -> list[str]:
        return list(self.backbone.blocks_left_out())

    def number_of_decisions(self) -> int:
        return len(list(self.backbone.deciders())) if self.skip else 0

    def _run_gated(self, block: GatedBlock, x: Tensor, forward_pass: ExportPass) -> Tensor:
        decision, residual = block.decide(x, forward_pass), Residual(block)
        shortcut = residual.shortcut(x)
        if not self.skip:
            return residual.activate(shortcut + decision[:, None, None, None] * residual.branch(x))
        return run_if(decision, lambda x, shortcut: residual.activate(residual.branch(x) + shortcut),
                      lambda x, shortcut: close(residual, shortcut), x, shortcut)


def run_if(decision: Tensor, run: Callable, skip: Callable, *operands: Tensor) -> Tensor:
    """One of two functions of the operands, by the (1,) decision about one image; they may not return an operand."""
    return torch.cond((decision > 0).squeeze(0), run, skip, operands)


def close(residual: Residual, shortcut: Tensor) -> Tensor:
    """What a closed block hands on, in memory of its own."""
    rectified = residual.projection is None  # by the block before
    return shortcut.clone() if rectified or residual.activation is None else torch.relu(shortcut)
