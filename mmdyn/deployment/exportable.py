"""Dynamic backbones as ONNX can express them: decisions by tensors alone, closed blocks behind real `If` nodes.

The backbones themselves read their decisions on the host, and whoever traces that keeps the branches that the example
took and drops the others without a word. Here every branch is in the graph.
"""
from collections.abc import Callable

import torch
from mmdyn.backbones.aig_backbone import AIGBackbone
from mmdyn.backbones.dg_backbone import DGBackbone
from mmdyn.functional.graph import cut, cut_output
from mmdyn.layers.forward_pass import ForwardPass
from mmdyn.layers.gated_stage import GatedBlock
from mmdyn.layers.residual import Residual
from torch import Tensor, nn


class Exportable(nn.Module):
    """A dynamic backbone whose forward is pure: it also returns what was decided.

    Args:
        backbone: With the weights; it is not changed, and computes the same.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def decision_names(self) -> list[str]:
        """What the decisions that forward returns are called."""
        raise NotImplementedError


class ExportableAIG(Exportable):
    """Gated blocks. A block runs if any image of the batch wants it, and is multiplied by the decision.

    So a closed block is skipped at batch 1; in larger batches it is when all images agree.

    Args:
        backbone: With policy 'argmax', or 'expected' if nothing is to be skipped.
        skip: Put each gated block behind an `If`; otherwise run it always (the fallback).
    """

    def __init__(self, backbone: AIGBackbone, *, skip: bool) -> None:
        super().__init__(backbone)
        self.skip = skip

    def decision_names(self) -> list[str]:
        return ['gates']

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(N, 3, H, W) -> the feature maps, and ((N, gates) decisions, )."""
        backbone = self.backbone
        forward_pass = backbone.begin_forward(images)
        x = backbone.run_stem(images)
        outs = []
        for i, name in enumerate(backbone.stage_names):
            stage = getattr(backbone, name)
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                if isinstance(block, GatedBlock):
                    decision = forward_pass.decide(block.name_in_backbone, block.gate, x)
                    x = self._run_gated(Residual(block), x, decision)
                else:
                    x = block(x)
            if i in backbone.out_indices:
                outs.append(x)
        return tuple(outs), (torch.stack(list(forward_pass.decisions.gates.values()), dim=1), )

    def _run_gated(self, residual: Residual, x: Tensor, decision: Tensor) -> Tensor:

        def run(x: Tensor, decision: Tensor) -> Tensor:
            return residual.activate(residual.shortcut(x) + decision[:, None, None, None] * residual.branch(x))

        def skip(x: Tensor, decision: Tensor) -> Tensor:
            # An identity shortcut has been rectified by the block before; a branch must not return its own input.
            return x.clone() if residual.projection is None else residual.activate(residual.shortcut(x))

        return torch.cond(decision.any(), run, skip, (x, decision)) if self.skip else run(x, decision)


class ExportableDG(Exportable):
    """Wired stages, masked: every node runs, and the adjacency weighs."""

    def __init__(self, backbone: DGBackbone) -> None:
        super().__init__(backbone)

    def decision_names(self) -> list[str]:
        return [f'adjacency_{name}' for name, _ in self.backbone.stages()]

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(N, 3, H, W) -> the feature maps, and each wired stage's (N, n+1, n+1) adjacency."""
        backbone = self.backbone
        forward_pass = backbone.begin_forward(images)
        x = backbone.run_stem(images)
        wired = dict(backbone.stages())
        outs, adjacencies = [], []
        for i, name in enumerate(backbone.stage_names):
            if name in wired:
                x, adjacency = self._run_stage([Residual(block) for block in wired[name]], x, forward_pass)
                adjacencies.append(adjacency)
            else:
                x = getattr(backbone, name)(x)
            if i in backbone.out_indices:
                outs.append(x)
        return tuple(outs), tuple(adjacencies)

    def _run_stage(self, residuals: list[Residual], x: Tensor, forward_pass: ForwardPass) -> tuple[Tensor, Tensor]:
        nodes, whole, threshold = len(residuals), self.backbone.node == 'block', self.backbone.threshold
        rectify: Callable = torch.relu if residuals[1].activation is not None and not whole else nn.Identity()
        maps: list[Tensor] = []
        columns = [x.new_zeros(len(x), nodes)]  # column j: the weights with which vertex j reads each node
        rows: list[Tensor] = []
        outputs: list[Tensor] = []
        alive: list[Tensor] = []
        for j, residual in enumerate(residuals):
            if j == 0:
                y = residual.branch(x)
                y = residual.activate(y + residual.shortcut(x) if residual.has_shortcut else y)
                alive.append(x.new_ones(len(x), 1))
            else:
                column = torch.stack([row[:, j - i - 1] for i, row in enumerate(rows)], dim=1)
                columns.append(nn.functional.pad(column, (0, nodes - j)))
                alive.append((column > 0).any(dim=1, keepdim=True).to(x.dtype))
                read = rectify(_weighted_sum(maps, column))
                y = residual.branch(read)
                y = residual.activate(y + read) if whole else y
            maps.append(y)
            weights = residual.block.router(forward_pass.pool(y))
            rows.append(cut(weights[:, :-1], threshold, alive[j]))
            outputs.append(weights[:, -1])
        column = cut_output(torch.stack(outputs, dim=1), threshold, torch.cat(alive, dim=1))
        adjacency = torch.stack([*columns, column], dim=2)
        return rectify(_weighted_sum(maps, column)), nn.functional.pad(adjacency, (0, 0, 0, 1))


def _weighted_sum(maps: list[Tensor], weights: Tensor) -> Tensor:
    """J maps (N, C, H, W) and (N, J) weights -> (N, C, H, W)."""
    return sum(y * weights[:, i, None, None, None] for i, y in enumerate(maps))


class WithHead(nn.Module):
    """An exportable backbone, or the classifier around it; returns a flat tuple, as ONNX wants it.

    Args:
        backbone: The exportable backbone.
        classifier: mmpretrain's ImageClassifier that it belongs to; None to export the feature maps.
    """

    def __init__(self, backbone: Exportable, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> feature maps, or (N, classes) logits; then the decisions."""
        features, decisions = self.backbone(images)
        if self.classifier is None:
            return *features, *decisions
        if self.classifier.with_neck:
            features = self.classifier.neck(features)
        return self.classifier.head(features), *decisions

    def output_names(self) -> list[str]:
        backbone = self.backbone.backbone
        features = [f'features_{i}' for i in backbone.out_indices] if self.classifier is None else ['logits']
        return features + self.backbone.decision_names()
