"""Times a dynamic backbone against its static parent, side by side in one process.

The runs of both are interleaved, so that whatever else the machine does meets both alike; medians of the times and of
the ratios of each round are given. Measured are a training step (forward and backward pass), inference with the
backbone's own decisions and with random ones at given open rates, and what is saved for the backward pass. Efficiency
is the ratio of the multiply-adds over the ratio of the times: 1 where all that is saved in arithmetic is saved in time.

    python tools/analysis_tools/benchmark.py configs/convnet_aig/retinanet_aig-r50_fpn_1x_coco.py
    python tools/analysis_tools/benchmark.py "dict(type='mmdyn.AIGResNet', depth=101)" --batch 8 --size 224
"""
import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from backbone_pair import WIRINGS, BackbonePair, DetectorPair, force_rate, read_config_or_backbone
from mmdyn.engine import InputError, check_output_folder, exit_on_bad_input
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from trained_model import check_size

MEASURES = ('train', 'memory', 'infer', 'rates')
# Where other processes take the cores away, only the time that this one has computed means anything.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


@dataclass(frozen=True)
class Row:
    """One line of the result; times in seconds, memory in bytes, ratios dynamic / static."""
    what: str
    batch: int
    size: str
    unit: str
    static: float
    dynamic: float
    ratio: float
    mac_ratio: float | None = None

    @property
    def efficiency(self) -> float | None:
        return None if self.mac_ratio is None else self.mac_ratio / self.ratio

    def cells(self) -> list[str]:
        scale, unit = (1e3, 'ms') if self.unit == 's' else (2**-20, 'MiB')
        optional = [f'{value:.3f}' if value is not None else '' for value in (self.mac_ratio, self.efficiency)]
        return [
            self.what, str(self.batch), self.size, f'{self.static * scale:.1f} {unit}',
            f'{self.dynamic * scale:.1f} {unit}', f'{self.ratio:.3f}', *optional
        ]


def interleave(functions: dict[str, Callable[[], object]],
               runs: int,
               warm_up: int = 2,
               prepare: Callable[[], None] = lambda: None,
               synchronise: Callable[[], None] = lambda: None,
               clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Runs functions in turn, round after round, and times each call.

    Args:
        functions: Name -> what to time.
        runs: Rounds that count.
        warm_up: Rounds before them.
        prepare: Called, untimed, before each round.
        synchronise: Waits until the device has finished.
        clock: In seconds.

    Returns:
        Name -> seconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warm_up, runs):
            prepare()
            names = list(functions)
            # Whoever runs second finds the caches as the first has left them.
            for name in names if turn % 2 else reversed(names):
                synchronise()
                start = clock()
                functions[name]()
                synchronise()
                if turn >= 0:
                    times[name].append(clock() - start)
    finally:
        gc.enable()
    return times


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes kept for the backward pass: all storages that autograd saves, each once, parameters left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()  # held: a storage that were freed could lend its address to another
    total = sum(saved.values())
    del output
    return total


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
            mac_ratios: list[float] | None = None) -> Row:
        ratios = [d / s for s, d in zip(static, dynamic)]
        # With other decisions in each round, multiply-adds and time belong together.
        mac_ratio = statistics.median(mac_ratios) if mac_ratios else None
        return Row(what, self.batch, f'{self.size[0]}x{self.size[1]}', unit, statistics.median(static),
                   statistics.median(dynamic), statistics.median(ratios), mac_ratio)

    def train(self) -> Row:
        """Forward and backward pass, the optimiser's step left out."""
        self.pair.backbone.force_decisions(self.decisions)
        with self.pair.training():
            steps = {name: lambda model=model: self.pair.train_step(model, self.inputs)
                     for name, model in self.pair.models.items()}
            times = interleave(steps, **self.timing)
        return self.row('training step', 's', times['static'], times['dynamic'])

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

        def prepare() -> None:
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


def measure(pair: BackbonePair, args: argparse.Namespace) -> list[Row]:
    rows = []
    for batch in args.batch:
        benchmark = Benchmark(
            pair, batch, tuple(args.size), args.decisions, args.wiring, runs=args.runs, warm_up=args.warm_up,
            clock=CLOCKS[args.clock])
        for what in args.measure:
            if what == 'rates':
                rows += [benchmark.infer(rate) for rate in args.open_rate]
            else:
                rows.append(getattr(benchmark, what)())
    return rows


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown."""
    header = ['', 'batch', 'size', 'static', 'dynamic', 'ratio', 'MAC ratio', 'efficiency']
    lines = [header, ['---'] * len(header), *(row.cells() for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config file with a dynamic backbone, or the backbone as "dict(type=..., ...)"')
    add('--static', metavar='BACKBONE', help='static backbone to compare with, as "dict(type=..., ...)" '
        "(default: the dynamic class's parent with the same options)")
    add('--batch', type=int, nargs='+', default=[1], help='batch sizes (default: 1)')
    add('--size', type=int, nargs='+', default=[384], metavar='PIXELS',
        help='height and width, or one number for both (default: 384)')
    add('--measure', nargs='+', choices=MEASURES, default=MEASURES, help='what to measure (default: everything)')
    add('--decisions', metavar='NAME', help="decisions to force while training and for the first line of inference: "
        "open or closed (gates), complete or chain (wired stages) (default: the backbone's own)")
    add('--open-rate', type=float, nargs='*', default=[0.5, 1.0], metavar='RATE',
        help='open rates, of gates or nodes, to measure inference at (default: 0.5 1)')
    add('--wiring', choices=WIRINGS, default='complete',
        help='edges between the nodes that are alive at a given rate (default: %(default)s)')
    add('--channels-last', action='store_true', help='both networks in the channels-last memory format')
    add('--whole-detector', action='store_true', help="time inference of the config's whole detector")
    add('--runs', type=int, default=20, help='rounds of each measurement (default: %(default)s)')
    add('--warm-up', type=int, default=2, help='rounds before them; with random decisions on CPUs take 30, since oneDNN '
        'compiles a kernel for each new number of open images (default: %(default)s)')
    add('--clock', choices=CLOCKS, default='wall',
        help='what to time; on a busy machine, use --clock cpu --threads 1 (default: %(default)s)')
    add('--threads', type=int, help="CPU threads (default: torch's choice)")
    add('--device', default='cpu', help='such as cpu or cuda:0 (default: %(default)s)')
    add('--json', type=Path, metavar='FILE', help='file to write the result to, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        if len(args.size) > 2 or min(args.size + args.batch + [args.runs, args.warm_up]) < 1:
            raise InputError('--size takes one or two numbers; sizes, batches and rounds must be at least 1')
        args.size = (args.size * 2)[:2]
        for rate in args.open_rate:
            if not 0 <= rate <= 1:
                raise InputError(f'--open-rate expects numbers in [0, 1], got {rate:g}')
        if args.json:
            check_output_folder(str(args.json.parent))
        if args.threads:
            torch.set_num_threads(args.threads)
        cfg = read_config_or_backbone(args.config)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        static = read_config_or_backbone(args.static).model.backbone if args.static else None
        if args.whole_detector:
            if 'type' not in cfg.model:
                raise InputError('--whole-detector expects a config file of a detector, got a backbone')
            args.measure = [what for what in args.measure if what in ('infer', 'rates')]
            pair = DetectorPair(cfg.model, static, args.device)
        else:
            pair = BackbonePair(cfg.model.backbone, static, args.device)
        check_size(pair.account, tuple(args.size), '--size')
        if args.channels_last:
            for model in pair.models.values():
                model.to(memory_format=torch.channels_last)
        try:
            pair.backbone.force_decisions(args.decisions)
        except ValueError as error:
            raise InputError(f'--decisions: {error}') from None
    rows = measure(pair, args)
    static = getattr(pair.static, 'backbone', pair.static)
    memory_format = 'channels last' if args.channels_last else 'contiguous'
    print(f'{type(pair.backbone).__name__} against {type(static).__name__}, {args.device}, {memory_format}, '
          f'{torch.get_num_threads()} threads, {args.clock} time, median of {args.runs} interleaved rounds\n\n{table(rows)}')
    if args.json:
        content = [dict(asdict(row), efficiency=row.efficiency) for row in rows]
        args.json.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
