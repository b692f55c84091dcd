"""Training throughput of two processes against one, for a dynamic backbone and its static parent, side by side."""
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn, optim

from ..engine import InputError, leave_process_group
from .backbone_pair import BackbonePair, read_config_or_backbone

WARM_UP_ROUNDS = 2
KINDS = ('static', 'dynamic')


@dataclass(frozen=True)
class Setting:
    """What is trained: so many square images in all, by so many threads in all, for so many rounds."""
    config: str
    batch: int
    size: int
    threads: int
    runs: int

    def __post_init__(self) -> None:
        if self.batch < 2 or self.batch % 2 or self.threads < 2 or self.threads % 2 or self.runs < 1:
            raise InputError('--batch and --threads are split in half, so they must be even; --runs must be at least 1')


def step(model: nn.Module, optimizer: optim.Optimizer, images: Tensor) -> None:
    """One step of training: forward, backward (with the exchange of gradients) and update."""
    optimizer.zero_grad()
    sum(features.square().mean() for features in model(images)).backward()
    optimizer.step()


def work(index: int, setting: Setting, barrier: Barrier, folder: str) -> None:
    """Process 0 trains alone; 1 and 2 train together. All three take turns.

    The seconds of each round go to a file, one tensor (rounds, kinds) a process.
    """
    alone = index == 0
    torch.set_num_threads(setting.threads if alone else setting.threads // 2)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    pair = BackbonePair(read_config_or_backbone(setting.config).model.backbone)
    models = dict(pair.models)
    if not alone:
        torch.distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/rendezvous', rank=index - 1, world_size=2)
        models = {kind: nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
                  for kind, model in models.items()}
    optimizers = {kind: optim.SGD(model.parameters(), lr=1e-4) for kind, model in models.items()}
    images = pair.make_inputs(setting.batch if alone else setting.batch // 2, (setting.size, setting.size))
    seconds = torch.zeros(setting.runs, len(KINDS))
    with pair.training():
        for turn in range(-WARM_UP_ROUNDS, setting.runs):
            # Whoever runs second finds the machine as the first has left it.
            for kind in KINDS[::1 if turn % 2 else -1]:
                for turn_of_one in (True, False):
                    barrier.wait()
                    if turn_of_one == alone:
                        start = time.perf_counter()
                        step(models[kind], optimizers[kind], images)
                        if turn >= 0:
                            seconds[turn, KINDS.index(kind)] = time.perf_counter() - start
            barrier.wait()
    torch.save(seconds, Path(folder, f'{index}.pt'))
    leave_process_group()


def report(setting: Setting, one: Tensor, two: Tensor) -> str:
    """A table in Markdown from the (rounds, kinds) seconds of one process and of the slower of two."""
    lines = [['', f'1 process, {setting.threads} threads', f'2 processes, {setting.threads // 2} threads each', 'ratio'],
             ['---'] * 4]
    for kind, alone, both in zip(KINDS, one.T.tolist(), two.T.tolist()):
        # In each round, one has met the same load of the machine as the other.
        ratio = statistics.median(a / b for a, b in zip(alone, both))
        rates = [f'{setting.batch / statistics.median(times):.2f} images/s' for times in (alone, both)]
        lines.append([kind, *rates, f'{ratio:.3f}'])
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def compare(config: str, *, batch: int, size: int, threads: int, runs: int) -> str:
    """Trains with one process and with two, in turn; returns what was trained, and the table.

    Raises:
        InputError: If the numbers cannot be split in half, or the backbone is none.
    """
    setting = Setting(config, batch, size, threads, runs)
    # Threads that wait for work must not keep a core busy that another process is measured on.
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    os.environ.setdefault('KMP_BLOCKTIME', '0')
    init_default_scope('mmdet')
    BackbonePair(read_config_or_backbone(config).model.backbone)  # what is wrong with it shows here, once
    context = torch.multiprocessing.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (setting, context.Barrier(3), folder), nprocs=3)
        alone, *two = [torch.load(Path(folder, f'{index}.pt')) for index in range(3)]
    return (f'training steps, {batch} images of {size} x {size}, median of {runs} interleaved rounds; '
            f'ratio: throughput of two processes over that of one\n\n{report(setting, alone, torch.maximum(*two))}')
