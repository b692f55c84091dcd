"""Stages whose blocks a gate opens or closes, image by image (ConvNet-AIG)."""
from functools import partial
from itertools import compress, groupby
from typing import Iterable, Optional

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..functional.weighing import weigh
from .conditional import gather, portions, run_on_open, select
from .exploration import explore, with_zero_gradients
from .extension import Extension
from .forward_pass import ForwardPass, require_pass
from .gate import BaseGate
from .gated_sum import gated_sum, is_plain
from .residual import Residual


class GatedBlock(Extension):
    """A residual block with a gate: ``activation(shortcut(x) + decision * branch(x))`` (ConvNet-AIG, equation 2).

    Where closed blocks are skipped, the branch runs on the open images only.

    Attributes:
        gate: Decides from the block's input; a block that follows a leader has none.
        leader: Name of the block before it whose gate decides for it too, if the two are of one group.
    """

    prefix = 'Gated'
    gate: BaseGate
    leader: Optional[str] = None

    def forward(self, x: Tensor, *, forward_pass: Optional[ForwardPass] = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Raises:
            TypeError: Without the pass that it is part of.
        """
        forward_pass = require_pass(forward_pass, f'the gated block {self.name_in_backbone!r}')
        decision = self.decide(x, forward_pass)
        if decision is None:
            return super().forward(x)  # the block as MMDetection runs it
        residual = Residual(self)
        if forward_pass.exploration is not None:
            return _run_explored(residual, forward_pass.beside(x), decision, forward_pass.exploration)
        if not forward_pass.skips:
            return _run_masked(residual, forward_pass.beside(x), decision)
        if torch.is_grad_enabled() or x.device.type != 'cpu':
            return _run_gathered(residual, x, decision, forward_pass)
        return _run_portions(residual, x, decision, forward_pass)

    def decide(self, x: Tensor, forward_pass: ForwardPass) -> Optional[Tensor]:
        """(N, C, H, W) -> (N,) decisions; None if every image runs the block without asking."""
        if self.leader is not None:
            return forward_pass.follow(self.name_in_backbone, self.leader)
        return forward_pass.decide(self.name_in_backbone, self.gate, x)


class GatedStage(Extension):
    """A stage that hands the pass on to its gated blocks; the others run as ever."""

    prefix = 'Gated'

    def forward(self, x: Tensor, *, forward_pass: Optional[ForwardPass] = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Raises:
            TypeError: Without the pass that it is part of.
        """
        forward_pass = require_pass(forward_pass, f'the gated stage {self.name_in_backbone!r}')
        forward_pass.stage_input = x
        for block in self:
            x = block(x, forward_pass=forward_pass) if isinstance(block, GatedBlock) else block(x)
        return x


def _run_masked(residual: Residual, x: Tensor, decision: Tensor) -> Tensor:
    """The branch runs on every image, and the decision multiplies it."""

    def run(x: Tensor, decision: Tensor) -> Tensor:
        return _add_branch(residual, x, residual.shortcut(x), decision)

    return checkpoint(run, x, decision, use_reentrant=False) if residual.recomputes(x) else run(x, decision)


def _add_branch(residual: Residual, x: Tensor, shortcut: Tensor, decision: Tensor) -> Tensor:
    norm = residual.last_norm
    if torch.is_grad_enabled() and is_plain(norm, residual.activation):
        z = residual.branch_before_norm(x)
        return gated_sum(shortcut, z, decision, norm, activated=residual.activation is not None)
    return residual.activate(weigh(residual.branch(x), decision, shortcut))


def _run_explored(residual: Residual, x: Tensor, decision: Tensor, exploration: float) -> Tensor:
    """Training that skips: the branch runs on the open images, and on closed ones drawn to learn what opening is worth."""
    decision, running = explore(decision, exploration)
    if all(running):
        return _run_masked(residual, x, decision)
    # Views of neighbours, put together again: their gradients are views too, and nothing is summed or filled with zeros.
    flags, lengths = zip(*((runs_now, len(list(images))) for runs_now, images in groupby(running)))
    images = x.split(lengths)
    shortcuts = images if residual.projection is None else residual.shortcut(x).split(lengths)
    closed = [part for part, runs_now in zip(shortcuts, flags) if not runs_now]
    if residual.projection is not None:
        closed = residual.activate(torch.cat(closed)).split([len(part) for part in closed])
    if not any(running):
        return with_zero_gradients(torch.cat(closed), [decision, *residual.block.parameters()])
    x, decision = (_joined(compress(parts, flags)) for parts in (images, decision.split(lengths)))
    shortcut = x if residual.projection is None else _joined(compress(shortcuts, flags))
    run = partial(_add_branch, residual)
    if residual.recomputes(x):
        run = partial(checkpoint, run, use_reentrant=False)
    ran = run(x, shortcut, decision)
    sources = iter(ran.to(closed[0].dtype).split(list(compress(lengths, flags)))), iter(closed)
    return torch.cat([next(sources[not runs_now]) for runs_now in flags])


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Parts of a batch as one, which is not copied where it is one already."""
    first, *others = parts
    return torch.cat([first, *others]) if others else first


def _run_gathered(residual: Residual, x: Tensor, decision: Tensor, forward_pass: ForwardPass) -> Tensor:
    """The branch runs on the open images: a few large operations, with a backward pass."""
    index = forward_pass.open_index(decision)
    branch = run_on_open(residual.branch, x, index)
    if branch is None and residual.projection is None:
        return x  # the activation before has already done what this block's would do
    shortcut = residual.shortcut(x)
    if branch is not None and len(index) == len(x):
        return residual.activate(branch + shortcut)
    out = forward_pass.writable(shortcut)
    if branch is not None:  # sums put in their places, where `index_add` would add atomically
        out.index_copy_(0, index, (branch + select(shortcut, index)).to(out.dtype))
    return residual.activate(out)


def _run_portions(residual: Residual, x: Tensor, decision: Tensor, forward_pass: ForwardPass) -> Tensor:
    """The same on CPUs, without gradient: as many images at a time as the cache holds, in place where nobody looks."""
    images = [n for n, is_open in enumerate(decision.tolist()) if is_open]
    projected = residual.projection is not None
    if not images and not projected:
        return x
    shortcut = residual.shortcut(x)
    groups = portions(images, shortcut)
    if len(images) == len(x) and len(groups) == 1:
        return residual.add(residual.branch(x), shortcut)
    out = forward_pass.writable(shortcut)
    for group in groups:
        for n, branch in zip(group, residual.branch(gather(x, group))):
            residual.activate(out[n].add_(branch))
    if projected:  # what is not has gone through an activation in the block before
        for n in set(range(len(x))).difference(images):
            residual.activate(out[n])
    return out
