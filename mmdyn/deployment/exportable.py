"""Dynamic backbones as ONNX can express them: decisions by tensors alone, closed blocks behind real `If` nodes.

The backbones themselves read their decisions on the host, and whoever traces that keeps the branches that the example
took and drops the others without a word. Here every branch is in the graph.
"""
import torch
from mmdyn.backbones.aig_backbone import AIGBackbone
from mmdyn.backbones.dg_backbone import DGBackbone
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
                    decision = block.decide(x, forward_pass)
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
        forward_pass = self.backbone.begin_forward(images)
        forward_pass.skips = False
        return self.backbone.run(images, forward_pass), tuple(forward_pass.decisions.adjacency.values())


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
