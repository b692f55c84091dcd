"""Times a dynamic backbone against its static parent, side by side in one process.

The runs of both are interleaved, so that whatever else the machine does meets both alike; medians of the times and of
the ratios of each round are given. Efficiency is the ratio of the multiply-adds over the ratio of the times.
"""
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope

from ..engine import InputError, blame, check_output_folder
from .backbone_pair import BackbonePair, DetectorPair, force_rate, read_config_or_backbone
from .timing import interleave, saved_bytes
from .trained_model import check_size
from .training_images import training_batch

MEASURES = ('train', 'memory', 'infer', 'rates')
# Where other processes take the cores away, only the time that this one has computed means anything.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


@dataclass(frozen=True)
class Row:
    """One line of the result; times in seconds, memory in bytes, ratios dynamic / static.

    Attributes:
        over_masked: Of training that skips: its time over that of masked training in the same rounds.
    """
    what: str
    batch: int
    size: str
    unit: str
    static: float
    dynamic: float
    ratio: float
    mac_ratio: float | None = None
    over_masked: float | None = None

    @property
    def efficiency(self) -> float | None:
        return None if self.mac_ratio is None else self.mac_ratio / self.ratio

    def cells(self) -> list[str]:
        scale, unit = (1e3, 'ms') if self.unit == 's' else (2**-20, 'MiB')
        optional = [f'{value:.3f}' if value is not None else ''
                    for value in (self.mac_ratio, self.efficiency, self.over_masked)]
        return [
            self.what, str(self.batch), self.size, f'{self.static * scale:.1f} {unit}',
            f'{self.dynamic * scale:.1f} {unit}', f'{self.ratio:.3f}', *optional
        ]


class Benchmark:
    """The measurements of one pair at one batch size.

    Args:
        pair: Static and dynamic model.
        batch: Images.
        size: (H, W) in pixels.
        decisions: Forced where no open rate is given; None leaves them to the backbone.
        wiring: Of the nodes that are alive, at a given open rate.
        timing: Options of :func:`interleave`.
    """

    def __init__(self, pair: BackbonePair, batch: int, size: tuple[int, int], decisions: str | None, wiring: str,
                 **timing) -> None:
        self.pair, self.batch, self.size, self.timing = pair, batch, size, timing
        self.decisions, self.wiring = decisions, wiring
        self.inputs = pair.make_inputs(batch, size)
        if next(pair.dynamic.parameters()).is_cuda:
            timing['synchronise'] = torch.cuda.synchronize

    def row(self, what: str, unit: str, static: list[float], dynamic: list[float],
            mac_ratios: list[float] | None = None, masked: list[float] | None = None) -> Row:
        ratios = [d / s for s, d in zip(static, dynamic)]
        # With other decisions in each round, multiply-adds and time belong together.
        mac_ratio = statistics.median(mac_ratios) if mac_ratios else None
        over_masked = statistics.median(d / m for m, d in zip(masked, dynamic)) if masked else None
        return Row(what, self.batch, f'{self.size[0]}x{self.size[1]}', unit, statistics.median(static),
                   statistics.median(dynamic), statistics.median(ratios), mac_ratio, over_masked)

    def train(self, rates: Sequence[float]) -> list[Row]:
        """Forward and backward pass, without the optimiser's step: masked; skipped, with random decisions of given rates."""
        pair, backbone, generator = self.pair, self.pair.backbone, torch.Generator().manual_seed(0)
        masked = 'training step'
        skipped = {f'{masked}, skipped, open rate {rate:g}': rate for rate in (rates if pair.skips_in_training() else ())}

        def prepare(name: str) -> None:
            if name == masked:
                backbone.train_execution = 'mask'
                backbone.force_decisions(self.decisions)
            elif name in skipped:
                backbone.train_execution = 'skip'
                force_rate(backbone, skipped[name], self.batch, generator, self.wiring)

        steps = {name: partial(pair.train_step, pair.dynamic, self.inputs) for name in (masked, *skipped)}
        with pair.training():
            times = interleave(dict(steps, static=partial(pair.train_step, pair.static, self.inputs)), prepare=prepare,
                               **self.timing)
        return [self.row(name, 's', times['static'], times[name], masked=times[masked] if name in skipped else None)
                for name in steps]

    def memory(self) -> Row:
        self.pair.backbone.force_decisions(self.decisions)
        with self.pair.training():
            sizes = {name: saved_bytes(model, lambda model=model: self.pair.loss(model, self.inputs))
                     for name, model in self.pair.models.items()}
        return self.row('saved activations', 'B', [sizes['static']], [sizes['dynamic']])

    def infer(self, rate: float | None = None) -> Row:
        """Inference, with random decisions where an open rate is given."""
        pair, backbone, generator = self.pair, self.pair.backbone, torch.Generator().manual_seed(0)
        decisions = []

        def prepare(name: str) -> None:
            if name == 'static':
                return
            if rate is None:
                backbone.force_decisions(self.decisions)
            else:
                force_rate(backbone, rate, self.batch, generator, self.wiring)

        def dynamic() -> None:
            pair.predict(pair.dynamic, self.inputs)
            decisions.append(backbone.decisions)

        functions = dict(static=lambda: pair.predict(pair.static, self.inputs), dynamic=dynamic)
        with pair.evaluation(), torch.no_grad():
            times = interleave(functions, prepare=prepare, **self.timing)
        dense = self.batch * pair.static_macs(self.size)
        macs = [sum(cost.macs for cost in pair.account.images(run)) for run in decisions[-len(times['dynamic']):]]
        what = 'inference' if rate is None else f'inference, open rate {rate:g}'
        # Of a whole detector, the backbone's multiply-adds are a part only.
        ratios = None if isinstance(pair, DetectorPair) else [run / dense for run in macs]
        return self.row(what, 's', times['static'], times['dynamic'], ratios)


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown."""
    header = ['', 'batch', 'size', 'static', 'dynamic', 'ratio', 'MAC ratio', 'efficiency', 'over masked']
    lines = [header, ['---'] * len(header), *(row.cells() for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def build_pair(config: str, static: str | None, device: str, amp: str | None, *, cfg_options: Mapping[str, Any] | None,
               whole_detector: bool, training_images: bool) -> BackbonePair:
    """The dynamic model that a config file or ``dict(type=...)`` names, and the static one beside it."""
    cfg = read_config_or_backbone(config, cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    static = read_config_or_backbone(static).model.backbone if static else None
    if training_images and not whole_detector:
        raise InputError('--training-images is for a --whole-detector; backbones alone are measured on random images')
    if not whole_detector:
        return BackbonePair(cfg.model.backbone, static, device, amp)
    if 'type' not in cfg.model:
        raise InputError('--whole-detector expects a config file of a detector, got a backbone')
    pair = DetectorPair(cfg.model, static, device, amp)
    if training_images:
        pair.draw = partial(training_batch, cfg)
    return pair


def check_numbers(size: Sequence[int], batch: Sequence[int], open_rate: Sequence[float], runs: int, warm_up: int) -> None:
    if len(size) > 2:
        raise InputError(f'--size expects one or two numbers, got {len(size)}')
    for option, value in (('--size', min(size)), ('--batch', min(batch)), ('--runs', runs), ('--warm-up', warm_up)):
        if value < 1:
            raise InputError(f'{option} expects at least 1, got {value}')
    for rate in open_rate:
        if not 0 <= rate <= 1:
            raise InputError(f'--open-rate expects numbers in [0, 1], got {rate:g}')


def measure_pair(pair: BackbonePair, measure: Sequence[str], batch: Sequence[int], open_rate: Sequence[float],
                 **options) -> list[Row]:
    """The rows of all batch sizes; options are those of :class:`Benchmark`."""
    rows = []
    for images in batch:
        benchmark = Benchmark(pair, images, **options)
        for what in measure:
            if what == 'rates':
                rows += [benchmark.infer(rate) for rate in open_rate]
            elif what == 'train':
                rows += benchmark.train(open_rate)
            else:
                rows.append(getattr(benchmark, what)())
    return rows


def compare(config: str, *, static: str | None, batch: Sequence[int], size: Sequence[int], measure: Sequence[str],
            decisions: str | None, open_rate: Sequence[float], wiring: str, channels_last: bool, whole_detector: bool,
            cfg_options: Mapping[str, Any] | None, training_images: bool, runs: int, warm_up: int, clock: str,
            threads: int | None, device: str, amp: str | None, json_file: Path | None) -> str:
    """Measures what the options of tools/analysis_tools/benchmark.py ask for.

    Returns:
        A sentence on what was compared, and the table.

    Raises:
        InputError: If an option is out of range, or the models cannot be compared.
    """
    check_numbers(size, batch, open_rate, runs, warm_up)
    shape = (size[0], size[-1])
    if json_file:
        check_output_folder(str(json_file.parent))
    if threads:
        torch.set_num_threads(threads)
    with blame('the backbones cannot be built'):
        pair = build_pair(config, static, device, amp, cfg_options=cfg_options, whole_detector=whole_detector,
                          training_images=training_images)
    check_size(pair.account, shape, '--size')
    if channels_last:
        for model in pair.models.values():
            model.to(memory_format=torch.channels_last)
    try:
        pair.backbone.force_decisions(decisions)
    except ValueError as error:
        raise InputError(f'--decisions: {error}') from None
    rows = measure_pair(pair, measure, batch, open_rate, size=shape, decisions=decisions, wiring=wiring, runs=runs,
                        warm_up=warm_up, clock=CLOCKS[clock])
    if json_file:
        content = [dict(asdict(row), efficiency=row.efficiency) for row in rows]
        json_file.write_text(json.dumps(content, indent=1) + '\n')
    parent = getattr(pair.static, 'backbone', pair.static)
    maps = f"{amp or 'float32'}, {'channels last' if channels_last else 'contiguous'}"
    return (f'{type(pair.backbone).__name__} against {type(parent).__name__}, {device}, {maps}, '
            f'{torch.get_num_threads()} threads, {clock} time, median of {runs} interleaved rounds\n\n{table(rows)}')
