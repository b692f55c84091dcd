"""A model as ONNX can express it: from a normalised image to named outputs, decisions and multiply-adds."""
import torch
from torch import Tensor, nn

from ..backbones.aig_backbone import AIGBackbone
from ..backbones.dg_backbone import DGBackbone
from ..backbones.dynamic_backbone import DynamicBackbone
from ..engine import InputError
from .backbone_cost import BackboneCost
from .export_pass import image_sizes
from .exportable_backbone import ExportableAIG, ExportableBackbone
from .exportable_wiring import ExportableDG
from .outputs import Named, outputs_of


class ExportableModel(nn.Module):
    """A model whose forward can be captured; its parameters are the model's, under the names that they have there.

    Args:
        model: With a backbone; it is not changed.
        kind: As in `outputs_of`.
        execution: ``'skip'`` what is closed, ``'mask'`` it, or None to skip wherever it can be.
        size: (H, W) of the images in pixels; None if it may differ from image to image.

    Raises:
        InputError: If it cannot be exported so.
    """

    def __init__(self, model: nn.Module, *, kind: str = 'result', execution: str | None = None,
                 size: tuple[int, int] | None = None) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        self.run = exportable_backbone(model.backbone, execution)
        self.outputs = outputs_of(model, kind)
        # Of the stage that chooses the boxes.
        test_cfg = getattr(model, 'test_cfg', None) or {}
        self.box_config = test_cfg.get('rcnn') or test_cfg
        cost = BackboneCost(model.backbone)
        self.stride = cost.stride
        self.macs = cost.by_cells() if size is None else {name: (macs, 0) for name, macs in cost.at(size).items()}

    def forward(self, images: Tensor) -> Named:
        """(1, C, H, W) -> the outputs by name.

        Beside those of `outputs_of`: ``blocks``, (1, B), 1 where a block ran that may be left out; of wired stages
        ``adjacency_<stage>``, (1, n+1, n+1); ``macs``, (2,) int64, the multiply-adds of what ran of the backbone, and
        of all of it, at the size of the graph's input.
        """
        features, ran, decisions = self.run(images)
        named = dict(self.outputs.compute(features, image_sizes(images)[0]))
        if ran:
            named['blocks'] = (torch.stack(list(ran.values()), dim=1) > 0).float()
        for stage, adjacency in (decisions.adjacency if decisions else {}).items():
            named[f'adjacency_{stage}'] = adjacency
        named['macs'] = self.count(named['blocks'] if ran and self.run.skip else None, images)
        return named

    def count(self, blocks: Tensor | None, images: Tensor) -> Tensor:
        """(2,) int64 multiply-adds, of what ran and of everything.

        Args:
            blocks: (1, B), 0 where a block did not run, in the order of their names; None if all did.
            images: (1, C, H, W), for their size.
        """
        cells = (images.shape[2] // self.stride) * (images.shape[3] // self.stride)
        constant, rate = self.macs['']
        dense = torch.full((1, ), constant + rate * cells)
        if blocks is None:
            return dense.expand(2)
        each = torch.tensor([self.macs[name] for name in self.run.block_names()])
        saved = (each[:, 0] + each[:, 1] * cells) * (blocks[0] == 0)
        return torch.cat([dense - saved.sum(), dense])


def exportable_backbone(backbone: nn.Module, execution: str | None) -> ExportableBackbone:
    """The backbone as ONNX can express it.

    Raises:
        InputError: If its decisions are drawn at random, or nothing can be skipped though it is asked for.
    """
    if not isinstance(backbone, DynamicBackbone):
        if execution == 'skip':
            raise InputError(f'{type(backbone).__name__} is static, so nothing can be skipped: leave --execution out')
        return ExportableBackbone(backbone, skip=False)
    policies = {getattr(decider, 'policy', 'argmax') for decider in backbone.deciders()}
    if 'sample' in policies:
        raise InputError("expected a deterministic policy, got policy='sample': say "
                         '--cfg-options model.backbone.policy=argmax')
    if execution == 'skip' and policies != {'argmax'}:
        why = "policy='expected' runs every block" if policies else 'the backbone has neither gates nor wired stages'
        raise InputError(f'{why}, so nothing can be skipped: leave --execution out, or say --execution mask')
    skip = execution != 'mask' and policies == {'argmax'}
    if isinstance(backbone, AIGBackbone):
        return ExportableAIG(backbone, skip=skip)
    assert isinstance(backbone, DGBackbone)
    return ExportableDG(backbone, skip=skip)
