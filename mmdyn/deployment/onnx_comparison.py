"""Does an ONNX graph decide and compute what PyTorch does, and how much time does a shut gate save in it?"""
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..engine import InputError
from .exportable import WithHead
from .onnx_export import export

TOLERANCE = 1e-4
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


def session(path: Path) -> Any:
    """onnxruntime on as many threads as PyTorch uses."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def pictures(folder: Path | None, number: int, shape: tuple[int, int], preprocessor: nn.Module) -> Iterator[Tensor]:
    """(1, 3, H, W) inputs: a folder's pictures, resized, normalised as the config says; or noise."""
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


def expected_outputs(model: nn.Module, module: WithHead, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What PyTorch computes by itself, skipping: the outputs and the decisions."""
    features = model.backbone(image)
    decisions = model.backbone.decisions
    outputs = list(features) if module.classifier is None else [module.classifier(image, mode='tensor')]
    if decisions.gates:
        return outputs, [torch.stack(list(decisions.gates.values()), dim=1)]
    return outputs, list(decisions.adjacency.values())


@torch.no_grad()
def compare(model: nn.Module, module: WithHead, path: Path, images: Iterable[Tensor]) -> tuple[int, float]:
    """Runs the graph on images that it was not exported with.

    Returns:
        The number of images, and the largest difference relative to the output's largest value.

    Raises:
        RuntimeError: If a decision differs, or an output by more than :data:`TOLERANCE`.
    """
    graph, number, largest = session(path), 0, 0.0
    for image in images:
        number += 1
        outputs, decisions = expected_outputs(model, module, image)
        found = [torch.from_numpy(value) for value in graph.run(None, {'images': image.numpy()})]
        for ours, theirs in zip(found[len(outputs):], decisions):
            if not torch.equal(ours > 0, theirs > 0):
                raise RuntimeError(f'image {number}: the decisions of the graph differ from those of PyTorch')
        for ours, theirs in zip(found, outputs + decisions):
            difference = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)
            largest = max(largest, difference.item())
        if not largest <= TOLERANCE:
            raise RuntimeError(f'image {number}: expected outputs within {TOLERANCE} of PyTorch, got {largest:.2g}')
    return number, largest


@contextmanager
def open_above(backbone: nn.Module, probability: float) -> Iterator[None]:
    """Gates open above this probability: 0 opens all, 1 shuts all."""
    before = [gate.open_probability for gate in backbone.deciders()]
    backbone.open_probability = probability
    yield
    for gate, value in zip(backbone.deciders(), before):
        gate.open_probability = value


@torch.no_grad()
def shut_against_open(model: nn.Module, module: WithHead, image: Tensor, rounds: int) -> dict[str, float]:
    """Time of one image with all gates shut, as a share of that with all open; the four are timed in turn.

    Returns:
        'onnxruntime' and 'PyTorch' -> the median of the rounds' ratios.
    """
    backbone, inputs = model.backbone, {'images': image.numpy()}
    ratios: dict[str, list[float]] = {'onnxruntime': [], 'PyTorch': []}
    with tempfile.TemporaryDirectory() as folder:
        graphs = {}
        for probability in (0.0, 1.0):
            path = Path(folder) / f'{probability}.onnx'
            with open_above(backbone, probability):
                export(module, image, path)
            graphs[probability] = session(path)
        for probability in (0.0, 1.0) * 3:
            graphs[probability].run(None, inputs)
        for _ in range(rounds):
            spent = {(engine, probability): 0.0 for engine in ratios for probability in graphs}
            for probability, graph in graphs.items():
                with open_above(backbone, probability):
                    start = time.perf_counter()
                    graph.run(None, inputs)
                    middle = time.perf_counter()
                    backbone(image) if module.classifier is None else module.classifier(image, mode='tensor')
                    spent['onnxruntime', probability] = middle - start
                    spent['PyTorch', probability] = time.perf_counter() - middle
            for engine, values in ratios.items():
                values.append(spent[engine, 1.0] / spent[engine, 0.0])
    return {engine: median(values) for engine, values in ratios.items()}
