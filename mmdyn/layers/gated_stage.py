"""Stages whose blocks a gate opens or closes, image by image (ConvNet-AIG)."""
from typing import Optional

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..functional.gated_sum import gated_sum
from .conditional import gather, portions, run_on_open
from .extension import Extension
from .forward_pass import ForwardPass, require_pass
from .gate import BaseGate
from .residual import Residual


class GatedBlock(Extension):
    """A residual block with a gate: ``activation(shortcut(x) + decision * branch(x))`` (ConvNet-AIG, equation 2).

    Where closed blocks are skipped, the branch runs on the open images only.

    Attributes:
        gate: Decides from the block's input.
    """

    prefix = 'Gated'
    gate: BaseGate

    def forward(self, x: Tensor, *, forward_pass: Optional[ForwardPass] = None) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Raises:
            TypeError: Without the pass that it is part of.
        """
        forward_pass = require_pass(forward_pass, f'the gated block {self.name_in_backbone!r}')
        decision = forward_pass.decide(self.name_in_backbone, self.gate, x)
        residual = Residual(self)
        if not forward_pass.skips or self.gate.policy == 'expected':
            return _run_masked(residual, x, decision, with_cp=self.with_cp)
        if torch.is_grad_enabled() or x.device.type != 'cpu':
            return _run_gathered(residual, x, decision)
        return _run_portions(residual, x, decision, forward_pass)


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


def _run_masked(residual: Residual, x: Tensor, decision: Tensor, with_cp: bool) -> Tensor:
    """The branch runs on every image, and the decision multiplies it."""
    if with_cp and x.requires_grad:
        branch = checkpoint(residual.branch, x, use_reentrant=False)
    else:
        branch = residual.branch(x)
    return residual.activate(gated_sum(residual.shortcut(x), branch, decision))


def _run_gathered(residual: Residual, x: Tensor, decision: Tensor) -> Tensor:
    """The branch runs on the open images: a few large operations, with a backward pass."""
    branch, index = run_on_open(residual.branch, x, decision)
    if branch is None and residual.projection is None:
        return x  # the activation before has already done what this block's would do
    shortcut = residual.shortcut(x)
    if index is None:
        return residual.activate(branch + shortcut)
    # A sum of its own in either case: hooks may have kept the shortcut, and the activation works in place.
    shortcut = shortcut.clone() if branch is None else shortcut.index_add(0, index, branch.to(shortcut.dtype))
    return residual.activate(shortcut)


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
