"""Does an ONNX graph decide and compute what PyTorch does?"""
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cost import blocks_run
from ..engine import InputError
from .detection_match import match
from .export_pass import image_sizes
from .exportable_model import ExportableModel
from .onnx_session import OnnxSession
from .outputs import Named

TOLERANCE = 1e-4
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


def pictures(folder: Path | None, number: int, shape: tuple[int, int], preprocessor: nn.Module) -> Iterator[Tensor]:
    """(1, 3, H, W) inputs: a folder's pictures, resized, normalised as the config says; or noise.

    Raises:
        InputError: If there are no pictures in the folder.
    """
    if folder is None:
        generator = torch.Generator().manual_seed(0)
        yield from (torch.randn(1, 3, *shape, generator=generator) for _ in range(number))
        return
    import mmcv
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f'expected pictures ({", ".join(IMAGE_SUFFIXES)}) in --images {folder}, found none')
    # From the whole folder, whose classes may be subfolders.
    for path in files[::max(1, len(files) // number)][:number]:
        image = mmcv.imresize(mmcv.imread(str(path)), shape[::-1])
        image = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        inputs = preprocessor(dict(inputs=[image], data_samples=None), False)['inputs']
        # Padding to the preprocessor's divisor would be another size than the graph's.
        yield inputs[:, :, :shape[0], :shape[1]]


@torch.no_grad()
def reference(model: nn.Module, module: ExportableModel, image: Tensor) -> tuple[Named, Named]:
    """What PyTorch computes by itself, skipping: the outputs, and what was decided, as the graph names it."""
    height, width = image_sizes(image)[0].tolist()
    outputs = module.outputs.reference(image, (height, width))
    decisions = getattr(model.backbone, 'decisions', None)
    decided = {} if decisions is None else {f'adjacency_{name}': value for name, value in decisions.adjacency.items()}
    if decisions is not None and (ran := blocks_run(decisions)):
        decided['blocks'] = torch.stack([ran[name] for name in module.run.block_names()], dim=1)
    return outputs, decided


def compare(model: nn.Module, module: ExportableModel, graph: OnnxSession,
            images: Iterable[Tensor]) -> tuple[int, float]:
    """Runs the graph on images that it was not exported with.

    Returns:
        The number of images, and the largest difference of what is not boxes, relative to an output's largest value.

    Raises:
        RuntimeError: If a decision differs, an output by more than :data:`TOLERANCE`, or a box as
            :func:`mmdyn.deployment.detection_match.match` says.
    """
    number, largest = 0, 0.0
    for image in images:
        number += 1
        outputs, decided = reference(model, module, image)
        found = {name: torch.from_numpy(value) for name, value in graph.run(image.numpy()).items()}
        for name, theirs in decided.items():
            if not torch.equal(found[name] > 0, theirs > 0):
                raise RuntimeError(f'image {number}: the decisions of the graph differ from those of PyTorch ({name})')
        if 'boxes' in outputs:
            match({name: found[name] for name in outputs}, outputs, module.box_config)
            outputs = {}
        for name, theirs in {**outputs, **decided}.items():
            difference = (found[name] - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)
            largest = max(largest, difference.item())
        if not largest <= TOLERANCE:
            raise RuntimeError(f'image {number}: expected outputs within {TOLERANCE} of PyTorch, got {largest:.2g}')
    return number, largest
