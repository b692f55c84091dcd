"""Exports a dynamic backbone, or a classifier with one, to ONNX, and compares it with PyTorch.

    python tools/deployment/export_onnx.py CONFIG [CHECKPOINT] --out model.onnx --shape 224
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx --images FOLDER --num-images 100
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx --benchmark 50

With gates (AIG) each gated block is behind an `If` node, so onnxruntime skips what is closed; `--execution mask` runs
everything and multiplies, for runtimes without `If`. Wired stages (DG) are always exported masked. Of a classifier of
mmpretrain the logits are exported, of everything else the backbone's feature maps; the decisions come with both. The
graph takes one image of the given size, normalised as the config says; padding at the right and bottom is 0.

The file is written only if, on all images compared, the decisions are PyTorch's and the outputs are within 1e-4 of it,
relative to their largest value. Needs onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime
"""
import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from exportable import Exportable, ExportableAIG, ExportableDG, WithHead
from mmdyn.backbones.aig_backbone import AIGBackbone
from mmdyn.engine import InputError, exit_on_bad_input
from mmengine.utils import digit_version
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'analysis_tools'))
from trained_model import build_model, check_weights, config_parser, read_config, read_weights  # noqa: E402

EXECUTIONS = ('skip', 'mask')
TOLERANCE = 1e-4
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; without it, fresh weights are exported')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.onnx', help='where to write the graph')
    parser.add_argument('--shape', type=int, nargs='+', default=[224], metavar='PIXELS',
                        help='height and width, or one number for both (default: 224)')
    parser.add_argument('--execution', choices=EXECUTIONS,
                        help="'skip' what is closed, or 'mask' it (default: skip for gates; wired stages only mask)")
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='pictures to compare on (default: seeded noise)')
    parser.add_argument('--num-images', type=int, default=20, metavar='N', help='how many (default: %(default)s)')
    parser.add_argument('--benchmark', type=int, default=0, metavar='ROUNDS',
                        help='also time all gates shut against all open, in onnxruntime and in PyTorch, in turn')
    return parser.parse_args()


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


@contextmanager
def open_above(backbone: nn.Module, probability: float) -> Iterator[None]:
    """Gates open above this probability: 0 opens all, 1 shuts all."""
    before = [gate.open_probability for gate in backbone.deciders()]
    backbone.open_probability = probability
    yield
    for gate, value in zip(backbone.deciders(), before):
        gate.open_probability = value


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


def operators(graph, kind: str) -> Iterator:
    """All nodes of a kind, also those inside the branches of others."""
    for node in graph.node:
        if node.op_type == kind:
            yield node
        for attribute in node.attribute:
            if attribute.HasField('g'):
                yield from operators(attribute.g, kind)


def session(path: Path):
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


def main() -> None:
    args = parse_args()
    if len(args.shape) > 2 or min(args.shape) < 32:
        raise InputError(f'expected one or two numbers of at least 32 pixels in --shape, got {args.shape}')
    if digit_version(torch.__version__) < digit_version('2.6'):  # torch.cond becomes an If since then
        raise InputError(f'expected torch >= 2.6, found {torch.__version__}')
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(f'{package} is missing: pip install onnx onnxscript onnxruntime') from error
    model = build_model(read_config(args)).eval()
    if args.checkpoint is not None:
        weights = read_weights(args.checkpoint)
        check_weights(model, weights, args.checkpoint)
        model.load_state_dict(weights)
    module, shape = exportable(model, args.execution), (args.shape[0], args.shape[-1])
    if args.benchmark and not (isinstance(module.backbone, ExportableAIG) and module.backbone.skip):
        raise InputError('--benchmark times gates that are shut and open, so it needs an AIG backbone and skipping')
    images = list(pictures(args.images, args.num_images, shape, model.data_preprocessor))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix('.partial.onnx')
    try:
        export(module, torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1)), partial)
        number, largest = compare(model, module, partial, images)
        partial.rename(args.out)
    finally:
        partial.unlink(missing_ok=True)
    print(f'{args.out}: on {number} images the decisions are those of PyTorch, the outputs within {largest:.1e} of it')
    if args.benchmark:
        for engine, ratio in shut_against_open(model, module, images[0], args.benchmark).items():
            print(f'{engine}: all gates shut takes {ratio:.2f} of the time of all gates open (batch 1, '
                  f'median of {args.benchmark} rounds)')


if __name__ == '__main__':
    with exit_on_bad_input():
        main()
