"""Writes a dynamic backbone, or a classifier with one, as an ONNX graph."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import digit_version
from torch import Tensor, nn

from ..backbones.aig_backbone import AIGBackbone
from ..engine import InputError
from .exportable import Exportable, ExportableAIG, ExportableDG, WithHead

EXECUTIONS = ('skip', 'mask')
OLDEST_TORCH = '2.6'  # torch.cond becomes an If since then


def require_packages() -> None:
    """Raises InputError unless what an export needs is installed."""
    if digit_version(torch.__version__) < digit_version(OLDEST_TORCH):
        raise InputError(f'expected torch >= {OLDEST_TORCH}, found {torch.__version__}')
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(f'{package} is missing: pip install onnx onnxscript onnxruntime') from error


def exportable(model: nn.Module, execution: str | None) -> WithHead:
    """The model as ONNX can express it.

    Raises:
        InputError: If its decisions are drawn at random, or it cannot do without running everything.
    """
    backbone = model.backbone
    policies = {getattr(decider, 'policy', 'argmax') for decider in backbone.deciders()}
    if 'sample' in policies:
        raise InputError("expected a deterministic policy, got policy='sample': say "
                         '--cfg-options model.backbone.policy=argmax')
    if isinstance(backbone, AIGBackbone):
        if not backbone.gates():
            raise InputError('expected a backbone with gates, but target_rates=1 leaves it none: it is static')
        if execution == 'skip' and policies != {'argmax'}:
            raise InputError("policy='expected' runs every block, so nothing can be skipped: say --execution mask")
        skip = policies == {'argmax'} if execution is None else execution == 'skip'
        pure: Exportable = ExportableAIG(backbone, skip=skip)
    elif execution == 'skip':
        raise InputError('wired stages (DG) are exported masked only: leave --execution out, or say --execution mask')
    else:
        pure = ExportableDG(backbone)
    return WithHead(pure, model if type(model).__name__ == 'ImageClassifier' else None).eval()


def export(module: WithHead, example: Tensor, path: Path) -> None:
    """Writes the graph.

    Args:
        module: Of :func:`exportable`.
        example: (1, 3, H, W); gives the size of the images.
        path: Of the ONNX file.

    Raises:
        RuntimeError: If a gated block is not behind an `If` of its own, or convolutions are missing.
    """
    import onnx
    with torch.no_grad():
        program = torch.onnx.export(module, (example, ), dynamo=True, verbose=False, input_names=['images'],
                                    output_names=module.output_names())
    program.save(str(path))
    graph = onnx.load(str(path)).graph
    skipping = isinstance(module.backbone, ExportableAIG) and module.backbone.skip
    expected = len(list(module.backbone.backbone.deciders())) if skipping else 0
    branches = [node for node in graph.node if node.op_type == 'If']
    if len(branches) != expected:
        raise RuntimeError(f'expected {expected} If nodes in the graph, one a gate, got {len(branches)}')
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.backbone.modules())
    found = len({weight for node in operators(graph, 'Conv') for weight in node.input[1:2]})
    if found < convolutions:
        raise RuntimeError(f'expected the {convolutions} convolutions of the backbone in the graph, got {found}')


def operators(graph: Any, kind: str) -> Iterator:
    """All nodes of a kind, also those inside the branches of others."""
    for node in graph.node:
        if node.op_type == kind:
            yield node
        for attribute in node.attribute:
            if attribute.HasField('g'):
                yield from operators(attribute.g, kind)
