"""Time of exported files in onnxruntime, by the share of the blocks that run, beside that of a static file."""
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from ..engine import InputError
from .graph_check import block_branches
from .onnx_session import OnnxSession

RATES = (0.0, 0.5, 1.0)
Pair = tuple[Path, Path]
Times = dict[float | None, list[float]]  # under None those of the static file


class ForcedFile:
    """A file whose branches are told from outside which way to go: it computes something else in the usual time.

    Args:
        path: Of a file with blocks that can be left out.
        threads: Of onnxruntime.

    Raises:
        InputError: If the file has none.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnx
        model = onnx.load(str(path))
        branches = block_branches(model.graph)
        if not branches:
            raise InputError(f'expected a file with blocks that can be left out, found none in {path}')
        self.names = [f'run_{i}' for i in range(len(branches))]
        for name, branch in zip(self.names, branches):
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, []))
            branch.input[0] = name
        self.session = OnnxSession(path, model.SerializeToString(), threads=threads)

    def run(self, image: np.ndarray, rate: float, draw: np.random.Generator) -> None:
        """Runs as many blocks as the rate says, drawn anew."""
        number = len(self.names)
        open_ = draw.permutation(number) < round(rate * number)
        self.session.run(image, **{name: np.array(value) for name, value in zip(self.names, open_)})


def milliseconds(dynamic: Path, static: Path, threads: int, rounds: int) -> Times:
    """Times of the static file and of the dynamic one at each open rate, in turn in each round.

    Raises:
        InputError: If the two take images of different sizes.
    """
    forced, plain = ForcedFile(dynamic, threads), OnnxSession(static, threads=threads)
    if forced.session.shape != plain.shape or forced.session.size is None:
        raise InputError('expected two files for images of one fixed size, got '
                         f'{forced.session.shape} and {plain.shape}')
    draw = np.random.default_rng(0)
    image = draw.standard_normal(plain.shape, dtype=np.float32)
    times: Times = defaultdict(list)
    for i in range(-3, rounds):  # three to warm up
        for rate in draw.permutation(np.array([None, *RATES], dtype=object)):
            start = perf_counter()
            plain.run(image) if rate is None else forced.run(image, rate, draw)
            if i >= 0:
                times[rate].append(1e3 * (perf_counter() - start))
    return times


def table(whole: Pair, backbones: Pair | None, threads: Sequence[int], rounds: int) -> Iterator[str]:
    """Lines of a Markdown table.

    Args:
        whole: Dynamic and static file.
        backbones: Those of the backbones alone, to say what share of the time these have.
        threads: Of onnxruntime, one after the other.
        rounds: Of which the medians are taken; ratios are those within a round.
    """
    yield _row('milliseconds (of static)', ['static', *(f'open rate {rate:g}' for rate in RATES)])
    yield '|---' * (len(RATES) + 2) + '|'
    for number in threads:
        times = milliseconds(*whole, number, rounds)
        yield _row(f'whole model, {number} thread{"s" * (number > 1)}', _cells(times))
        if backbones is not None:
            part = milliseconds(*backbones, number, rounds)
            yield _row('its backbone', _cells(part))
            shares = [median(part[key]) / median(times[key]) for key in (None, *RATES)]
            yield _row("the backbone's share", [f'{share:.0%}' for share in shares])


def _cells(times: Times) -> list[str]:
    ratios = {rate: median(ours / theirs for ours, theirs in zip(times[rate], times[None])) for rate in RATES}
    return [f'{median(times[None]):.1f}', *(f'{median(times[rate]):.1f} ({ratios[rate]:.2f})' for rate in RATES)]


def _row(name: str, cells: Sequence[str]) -> str:
    return f'| {name} | {" | ".join(cells)} |'
