"""What the tests of wired stages share: stages, a pass around them, and the same maths done naively."""
import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import InvertedResidual
from torch import nn

from mmdyn.functional.graph import cut, cut_output
from mmdyn.functional.gumbel import straight_through
from mmdyn.functional.pooling import cropped_pool, pooling_weights, weighted_pool
from mmdyn.layers.decisions import Decisions
from mmdyn.layers.extension import extend
from mmdyn.layers.gate import Gate
from mmdyn.layers.residual import Residual
from mmdyn.layers.router import Router
from mmdyn.layers.wired_stage import WiredBlock, WiredStage
from mmdyn.layers.workspace import Workspace

SIZE = (5, 7)
CELLS = torch.tensor([[5, 7], [3, 4], [5, 2]])


KINDS = ['bottleneck', 'basic', 'inverted']


def blocks(kind, nodes=4, channels=8, threshold_spread=3.0, gates=False, column_bound=None):
    if kind == 'bottleneck':
        down = nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels))
        made = [Bottleneck(3 if i == 0 else channels, channels // 4, downsample=None if i else down)
                for i in range(nodes)]
    elif kind == 'basic':
        down = nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels))
        made = [BasicBlock(3 if i == 0 else channels, channels, downsample=None if i else down)
                for i in range(nodes)]
    else:
        made = [InvertedResidual(3 if i == 0 else channels, channels, 12, with_expand_conv=True)
                for i in range(nodes)]
    for i, block in enumerate(made):
        block.router, block.node = Router(channels, [1.0] * (nodes - i), scale=2.0), i
        nn.init.normal_(block.router.weight, std=threshold_spread)
        nn.init.normal_(block.router.bias)
        if gates and i > 0:
            block.gate = Gate(channels)
            for parameter in block.gate.parameters():
                nn.init.normal_(parameter)
    stage = nn.Sequential(*made).double()
    for parameter in stage.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    for i, block in enumerate(stage):
        extend(block, WiredBlock, f'layer1.{i}')
    stage.workspace, stage.column_bound = Workspace(), column_bound
    extend(stage, WiredStage, 'layer1')
    return stage


class Pass:
    """What a stage needs of a forward pass, for maps of which CELLS are valid."""

    def __init__(self, skips=False, threshold=0.4, forced=None, pool=None, number=3):
        self.number = number
        self.exploration = None
        self.skips, self.threshold, self.forced = skips, threshold, forced
        self.decisions = Decisions(CELLS, SIZE)
        self._pool = pool

    def pool(self, features, images=None):
        if self._pool is not None:
            return self._pool(features)
        return self.cropped(features, images) if self.skips else self.weighted(features)

    def keep_adjacency(self, stage, adjacency):
        self.decisions.adjacency[stage] = adjacency

    def decide_from(self, name, gate, pooled):
        self.decisions.gates[name] = gate(pooled).decision
        return self.decisions.gates[name]

    def forced_adjacency(self, stage, images):
        return self.forced

    def pooling_weights(self, size):
        return None if self._pool is not None else weights_of(size)[:self.number]

    def weighted(self, features):
        return weighted_pool(features, weights_of(features.shape[2:])[:len(features)])

    def cropped(self, features, images=None):
        cells = CELLS.tolist()
        return cropped_pool(features, cells[:len(features)] if images is None else [cells[n] for n in images])


def weights_of(size):
    return pooling_weights(CELLS, SIZE, size)


def run(stage, x, node, *, with_cp=False, **kwargs):
    stage.whole_blocks = node == 'block'
    for block in stage:
        block.with_cp = with_cp
    forward_pass = Pass(number=len(x), **kwargs)
    return stage(x, forward_pass=forward_pass), forward_pass.decisions.adjacency['layer1']


def whole(block, x, gate=None):
    residual = Residual(block)
    out = residual.branch(x)
    if gate is not None:
        out = out * gate[:, None, None, None]
    return residual.activate(out + residual.shortcut(x)) if residual.has_shortcut else residual.activate(out)


def naive(stage, x, node, threshold=0.4):
    """The same maths with stack, sum and autograd, keeping everything."""
    residuals, nodes = [Residual(b) for b in stage], len(stage)
    ys, alive = [whole(stage[0], x)], [torch.ones(len(x), dtype=x.dtype)]
    rows, raw, matrix = [], [], torch.zeros(len(x), nodes + 1, nodes + 1, dtype=x.dtype)
    for i in range(nodes):
        if i > 0:
            column = bounded(torch.stack([rows[k][:, i - k - 1] for k in range(i)], 1), stage.column_bound)
            read = (torch.stack(ys, 1) * column[:, :, None, None, None]).sum(1)
            # Averaging what is read is all that a gate needs.
            gate = stage[i].gate(Pass().weighted(read)).decision if hasattr(stage[i], 'gate') else None
            alive.append((column > 0).any(1).to(x.dtype))
            matrix[:, :i, i] = column
            if node == 'block':
                ys.append(whole(stage[i], read, gate))
            else:
                ys.append(residuals[i].branch(read if residuals[i].activation is None else torch.relu(read)))
                if gate is not None:
                    alive[i] = alive[i] * gate
                    matrix[:, :i, i] = column * gate[:, None]
        weights = stage[i].router(Pass().weighted(ys[i]))
        rows.append(cut(weights, threshold, alive[i][:, None]))
        raw.append(weights[:, -1])
    column = bounded(cut_output(torch.stack(raw, 1), threshold, torch.stack(alive, 1)), stage.column_bound)
    # A node that is dead learns what its edge into the output would have given.
    edges = straight_through(column, bounded(torch.stack([row[:, -1] for row in rows], 1), stage.column_bound))
    out = (torch.stack(ys, 1) * edges[:, :, None, None, None]).sum(1)
    if node == 'branch' and residuals[1].activation is not None:
        out = torch.relu(out)
    matrix[:, :nodes, nodes] = column
    return out, matrix


def bounded(column, bound):
    if bound is None:
        return column
    total = column.sum(1, keepdim=True)
    return column * torch.where(total > bound, bound / torch.where(total > bound, total, 1), 1)


def gradients(function, stage, x):
    stage.zero_grad()
    torch.manual_seed(1)  # of gates
    x = x.clone().requires_grad_()
    out, adjacency = function(stage, x)
    generator = torch.Generator().manual_seed(1)
    loss = (out * torch.randn(out.shape, dtype=out.dtype, generator=generator)).sum()
    factors = torch.rand(adjacency.shape, dtype=out.dtype, generator=generator)
    loss = loss + (adjacency * factors).sum()
    loss.backward()
    return out, adjacency, x.grad, {n: p.grad for n, p in stage.named_parameters()}


def assert_same(ours, theirs):
    for a, b in zip(ours[:3], theirs[:3]):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11), (a - b).abs().max()
    for name, grad in theirs[3].items():
        assert ours[3][name] is not None, name
        wanted = torch.zeros_like(ours[3][name]) if grad is None else grad
        assert torch.allclose(ours[3][name], wanted, rtol=1e-8, atol=1e-9), name
