"""SparseStage: a wired stage at evaluation, without what is closed (DG-Net)."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from .conditional import gather, portions, run_on_open
from .dag_stage import DAGStage, Wiring
from .router import Router
from .stage_maps import StageMaps, write_sum
from .workspace import Workspace


class SparseStage(DAGStage):
    """One forward pass of a wired stage in which nothing runs or is read that is closed.

    A dead node does not run for the images that it is dead for, and only the maps behind open
    edges are read; one open edge of weight 1 is read without a copy. The decisions are read by
    the host (one synchronisation a node on a GPU). Has no backward pass.

    Args:
        workspace: Memory for the node outputs, kept between forward passes.
        **kwargs: Those of :class:`mmdyn.layers.dag_stage.DAGStage`.
    """

    def __init__(self, *args, workspace: Workspace, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace

    @torch.no_grad()
    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        nodes = len(self.residuals)
        first, shortcut = self.input_node(x)
        wiring = Wiring(nodes, first, self.threshold, self.forced)
        # The last node's output is not stored with the others: it becomes the stage's output.
        storage = self.workspace.take(first, (nodes - 1, len(first), first[0].numel()))
        stage = StageMaps(first, nodes, wiring.values, rectify_inputs=self.rectify_inputs,
                          storage=storage)
        y: Optional[Tensor] = stage.output(0)
        self._write(0, y, range(len(first)), first, shortcut)
        pooled: Optional[Tensor] = self.pool(y)
        for i, residual in enumerate(self.residuals):
            if i > 0:
                y, pooled = self._run_node(stage, i)
            wiring.decide(i, self._route(residual.block.router, pooled, wiring.alive(i)))
        wiring.decide_output()
        out = self._read_output(stage, y)
        self.workspace.give(storage)
        return out, wiring.adjacency()

    def _route(self, router: Router, pooled: Optional[Tensor], alive: Tensor) -> Tensor:
        """(N, edges) weights; what is dead has none, and its router does not run."""
        if pooled is None:
            return router.weight.new_zeros(len(alive), router.out_features)
        weights, index = run_on_open(router, pooled, alive)
        if index is None:
            return weights
        return weights.new_zeros(len(alive), router.out_features).index_copy_(0, index, weights)

    def _run_node(self, stage: StageMaps, i: int) -> tuple[Optional[Tensor], Optional[Tensor]]:
        """Runs node i for the images that it is alive for.

        Returns:
            y_i (N, C, H, W) and its averages (N, C), which mean nothing for images that it is
            dead for; None and None if it is dead for all.
        """
        weights = stage.adjacency[:, :i, i].tolist()
        images = [n for n, row in enumerate(weights) if any(row)]
        if not images:
            return None, None
        y = stage.output(i) if i < stage.nodes - 1 else torch.empty_like(stage.output(0))
        for portion in portions(images, y):
            x = self._read(stage, weights, portion)
            self._write(i, y, portion, self.residuals[i].branch(x), x if self.whole_blocks else None)
        return y, self.pool(y)

    def _write(self, i: int, y: Tensor, images: Sequence[int], branch: Tensor,
               shortcut: Optional[Tensor]) -> None:
        """Writes y_i = branch (+ shortcut) of these images, rectified if node i is."""
        if len(images) == len(y):
            write_sum(y, branch, shortcut, rectify=self.rectifies(i))
            return
        for row, n in enumerate(images):
            write_sum(y[n], branch[row], None if shortcut is None else shortcut[row],
                      rectify=self.rectifies(i))

    def _read(self, stage: StageMaps, weights: list[list[float]],
              images: Sequence[int]) -> Tensor:
        """What a vertex reads, for these images only; may be a view of the buffer."""
        sources = {tuple((i, w) for i, w in enumerate(weights[n]) if w) for n in images}
        if len(sources) == 1:
            (only, weight), *others = sources.pop()
            if not others and weight == 1:
                x = gather(stage.output(only), images)
                return torch.relu(x) if self.rectify_inputs else x
        flat = stage.maps.new_empty(len(images), stage.maps.shape[2])
        for out, n in zip(flat, images):
            _accumulate(stage, n, weights[n], out)
        x = stage.unflatten(flat)
        return x.relu_() if self.rectify_inputs else x

    def _read_output(self, stage: StageMaps, y: Optional[Tensor]) -> Tensor:
        """The stage's output; reuses the memory of ``y``, the last node's output."""
        weights = stage.adjacency[:, :-1, -1].tolist()
        own = [row.pop() for row in weights]
        if y is None or not any(own):
            x = self._read(stage, weights, list(range(len(weights))))
            # The buffer is written anew by the next forward pass.
            shared = x.untyped_storage().data_ptr() == stage.maps.untyped_storage().data_ptr()
            return x.clone() if shared else x
        flat = stage.flatten(y)
        for n, (row, weight) in enumerate(zip(weights, own)):
            if weight not in (0, 1):
                flat[n].mul_(weight)
            _accumulate(stage, n, row, flat[n], keep=bool(weight))
        x = stage.unflatten(flat)
        return x.relu_() if self.rectify_inputs else x


def _accumulate(stage: StageMaps, n: int, weights: list[float], out: Tensor, *,
                keep: bool = False) -> None:
    """Writes (or adds) to ``out`` the weighted sum of the nodes' maps of image n."""
    # Half precision would lose a little with every addition.
    total = out.to(torch.promote_types(out.dtype, torch.float32))
    for i, weight in enumerate(weights):
        if weight and keep:
            total.add_(stage.maps[i, n], alpha=weight)
        elif weight:
            torch.mul(stage.maps[i, n], weight, out=total)
            keep = True
    if total is not out:
        out.copy_(total)
