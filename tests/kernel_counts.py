"""Counts the operators that a training step dispatches, AIG and DG beside the static backbone.

    python tests/kernel_counts.py        # writes tests/kernel_counts.md anew; a test compares it
"""
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from gpu_calls import Kernels
from mmdet.models.backbones import ResNet

from mmdyn.backbones import AIGResNet, DGResNet

FILE = Path(__file__).with_suffix('.md')
BACKBONES = {
    'static': partial(ResNet, depth=50),
    'AIG': partial(AIGResNet, depth=50, target_rates=0.5),
    'DG, branches': partial(DGResNet, depth=50),
    'DG, whole blocks': partial(DGResNet, depth=50, node='block'),
}
BLOCKS = 16
HEADER = '''\
Operators that a training step of ResNet-50 dispatches, counted by `python tests/kernel_counts.py`. On a GPU each is a
kernel or a few; views and fresh memory are left out. Beside them, what each of the sixteen gated blocks or nodes takes
over a static block, its part of what the backbone does once included. PyTorch {torch}.

| norms | autocast | backbone | forward | backward | a block, forward | a block, backward |
|---|---|---|---|---|---|---|
'''


def count(backbone: torch.nn.Module, autocast: bool) -> tuple[int, int]:
    """Operators of the forward pass and of the backward pass."""
    backbone.train()
    backbone.losses_attached = True
    images = torch.randn(2, 3, 64, 64)
    # On GPUs no group of nodes is worked off ahead, and maps of half precision are not widened part by part.
    with mock.patch('mmdyn.layers.node_maps._GROUP', 99), mock.patch('mmdyn.functional.graph._COPIED_PARTS', 1):
        with Kernels() as forward, torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            outs = backbone(images)
        loss = sum(out.float().mean() for out in outs)
        with Kernels() as backward:
            loss.backward()
    return len(forward), len(backward)


def table() -> str:
    rows = []
    for norm_eval in (True, False):
        for autocast in (False, True):
            counts = {name: count(build(base_channels=8, norm_eval=norm_eval), autocast)
                      for name, build in BACKBONES.items()}
            for name, own in counts.items():
                over = [f'+{(n - static) / BLOCKS:.1f}' for n, static in zip(own, counts['static'])]
                cells = ['frozen' if norm_eval else 'training', 'bfloat16' if autocast else 'none', name, *own,
                         *(['', ''] if name == 'static' else over)]
                rows.append('| ' + ' | '.join(map(str, cells)) + ' |\n')
    return HEADER.format(torch=torch.__version__.partition('+')[0]) + ''.join(rows)


if __name__ == '__main__':
    FILE.write_text(table())
