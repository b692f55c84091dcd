"""Training throughput of two processes against one, for a dynamic backbone and its static parent, side by side.

Two processes of half the threads, each with half the batch, add their gradients (DistributedDataParallel, gloo); one
process with all threads takes the whole batch. The rounds of all four are interleaved, so that whatever else the machine
does meets them alike. What splitting costs is the ratio of the two throughputs; the dynamic model is to lose no more than
the static one.

    python tools/analysis_tools/benchmark_processes.py "dict(type='mmdyn.AIGResNet', depth=50)" --batch 4 --size 224
"""
import argparse
import os
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
from backbone_pair import BackbonePair, read_config_or_backbone
from mmdyn.engine import InputError, exit_on_bad_input, leave_process_group
from mmengine.registry import init_default_scope
from torch import Tensor, nn, optim

WARM_UP_ROUNDS = 2
KINDS = ('static', 'dynamic')
# Threads that wait for work must not keep a core busy that another process is measured on.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('KMP_BLOCKTIME', '0')


def step(model: nn.Module, optimizer: optim.Optimizer, images: Tensor) -> None:
    """One step of training: forward, backward (with the exchange of gradients) and update."""
    optimizer.zero_grad()
    sum(features.square().mean() for features in model(images)).backward()
    optimizer.step()


def work(index: int, args: argparse.Namespace, barrier: Barrier, folder: str) -> None:
    """Process 0 trains alone; 1 and 2 train together. All three take turns.

    The seconds of each round go to a file, one tensor (rounds, kinds) a process.
    """
    alone = index == 0
    torch.set_num_threads(args.threads if alone else args.threads // 2)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    pair = BackbonePair(read_config_or_backbone(args.config).model.backbone)
    models = dict(pair.models)
    if not alone:
        torch.distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/rendezvous', rank=index - 1, world_size=2)
        models = {kind: nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
                  for kind, model in models.items()}
    optimizers = {kind: optim.SGD(model.parameters(), lr=1e-4) for kind, model in models.items()}
    images = pair.make_inputs(args.batch if alone else args.batch // 2, (args.size, args.size))
    seconds = torch.zeros(args.runs, len(KINDS))
    with pair.training():
        for turn in range(-WARM_UP_ROUNDS, args.runs):
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


def report(args: argparse.Namespace, one: Tensor, two: Tensor) -> str:
    """A table in Markdown from the (rounds, kinds) seconds of one process and of the slower of two."""
    lines = [['', f'1 process, {args.threads} threads', f'2 processes, {args.threads // 2} threads each', 'ratio'],
             ['---'] * 4]
    for kind, alone, both in zip(KINDS, one.T.tolist(), two.T.tolist()):
        # In each round, one has met the same load of the machine as the other.
        ratio = statistics.median(a / b for a, b in zip(alone, both))
        rates = [f'{args.batch / statistics.median(times):.2f} images/s' for times in (alone, both)]
        lines.append([kind, *rates, f'{ratio:.3f}'])
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config file with a dynamic backbone, or the backbone as "dict(type=..., ...)"')
    add('--batch', type=int, default=4, help='images in all, an even number (default: %(default)s)')
    add('--size', type=int, default=224, metavar='PIXELS', help='height and width (default: %(default)s)')
    add('--threads', type=int, default=2, help='in all, an even number (default: %(default)s)')
    add('--runs', type=int, default=20, help='rounds (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        if args.batch < 2 or args.batch % 2 or args.threads < 2 or args.threads % 2 or args.runs < 1:
            raise InputError('--batch and --threads are split in half, so they must be even; --runs must be at least 1')
        init_default_scope('mmdet')
        BackbonePair(read_config_or_backbone(args.config).model.backbone)  # what is wrong with it shows here, once
    context = torch.multiprocessing.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (args, context.Barrier(3), folder), nprocs=3)
        alone, *two = [torch.load(Path(folder, f'{index}.pt')) for index in range(3)]
    print(f'training steps, {args.batch} images of {args.size} x {args.size}, median of {args.runs} interleaved rounds; '
          f'ratio: throughput of two processes over that of one\n\n{report(args, alone, torch.maximum(*two))}')


if __name__ == '__main__':
    main()
