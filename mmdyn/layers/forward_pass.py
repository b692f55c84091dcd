"""What the stages and blocks of a dynamic backbone share during one forward."""
from typing import Mapping, Optional, Sequence, Union

import torch
from torch import Tensor

from ..functional.gumbel import straight_through
from ..functional.pooling import cropped_pool, fill_their_frame, pool_beside, pooling_weights, valid_sizes
from ..functional.torch_versions import is_traced
from .decisions import Decisions
from .gate import BaseGate, ask

Forced = Union[None, str, Mapping[str, Tensor]]


class ForwardPass:
    """One forward of a dynamic backbone: made when it begins, handed down as an argument, and thrown away.

    What a forward computes on its way stands here and not on the modules, so that threads which run one model at the
    same time do not meet.

    Args:
        images: (N, C, H, W) normalised input.
        skips: Whether parts that are closed are left out.
        pool_padding: Pool over batch padding too.
        forced: Decisions to be used instead of the gates' or routers'.
        target_rates: Block name -> target rate.
        hooked: Whether hooks may keep the maps that pass from block to block, or their gradients.
        open_images: So many images, the first of the batch, run every block, and no gate is asked about them.

    Attributes:
        threshold: Of wired stages: an edge is open above it; a scalar tensor if it is learned.
        exploration: While training, closed parts are left out but for this share of the images, drawn at random; None:
            everything runs.
        decisions: What has been decided so far, about the images after the open ones.
        stage_input: What the stage that runs has read. It may have left the backbone.
    """

    def __init__(self,
                 images: Tensor,
                 *,
                 skips: bool,
                 pool_padding: bool = False,
                 forced: Forced = None,
                 target_rates: Optional[dict[str, float]] = None,
                 hooked: bool = True,
                 open_images: int = 0) -> None:
        self.threshold: Union[float, Tensor] = 0.0
        self.exploration: Optional[float] = None
        self.open_images = open_images
        self._all_open = 0 < open_images == len(images)
        self.input_size = (images.shape[2], images.shape[3])
        self.skips = skips
        self.forced = forced
        self.stage_input: Optional[Tensor] = None
        self._hooked = hooked
        self._observed = hooked or torch.is_grad_enabled() or len(images) == 1
        # What runs masked is to be one graph; and on a GPU, waiting costs more than averages with weights.
        self._reads_values = skips and images.device.type == 'cpu' and not is_traced()
        self._unpadded = pool_padding or (self._reads_values and fill_their_frame(images))
        self._sizes = _full_sizes(images) if self._unpadded else valid_sizes(images)
        self.decisions = Decisions(self._sizes[open_images:] if open_images else self._sizes, self.input_size, target_rates)
        self._sizes_on_host: Optional[list[list[int]]] = None
        self._weights: dict[tuple[int, int], Tensor] = {}
        self._dtype = torch.promote_types(images.dtype, torch.float32)
        self._pooled: Optional[tuple[Tensor, Tensor]] = None
        self._beside: Optional[tuple[Tensor, Tensor]] = None
        self._open_index: dict[Tensor, Tensor] = {}

    def pool(self, features: Tensor, images: Optional[Sequence[int]] = None) -> Tensor:
        """Averages over each image's valid part.

        Args:
            features: (N, C, h, w).
            images: Which M of the images these are, if not all; at evaluation only.

        Returns:
            (N, C) or (M, C), float32 or wider.
        """
        if is_traced():
            return self._pool(features, images)
        # A block that was closed for all images hands on the map that it read.
        if self._pooled is None or self._pooled[0] is not features:
            self._pooled = features, self._pool(features, images)
        return self._pooled[1]

    def beside(self, features: Tensor) -> Tensor:
        """What a block reads on whose input has been averaged: the same, and the gradient of the average comes with its own.

        To be read by two, branch and shortcut, so that its gradient is a sum (:func:`mmdyn.functional.pooling.pool_beside`).
        """
        if self._beside is None or self._beside[0] is not features:
            return features
        return self._beside[1]

    def writable(self, maps: Tensor) -> Tensor:
        """Maps that a block may write its output to: these, unless somebody may have kept them; then a copy."""
        if self._observed or maps is self.stage_input:
            return maps.clone()
        if self._pooled is not None and self._pooled[0] is maps:
            self._pooled = None
        return maps

    def _pool(self, features: Tensor, images: Optional[Sequence[int]]) -> Tensor:
        if self._unpadded:
            return features.mean(dim=(2, 3), dtype=torch.promote_types(features.dtype, torch.float32))
        weights = self.pooling_weights((features.shape[2], features.shape[3]))
        if weights is not None:
            beside, pooled = pool_beside(features, weights if len(features) == len(weights) else weights[images],
                                         private=not self._hooked)
            self._beside = features, beside
            return pooled
        if self._sizes_on_host is None:
            self._sizes_on_host = self._sizes.tolist()
        sizes = self._sizes_on_host if images is None else [self._sizes_on_host[n] for n in images]
        (height, width), feature_size = self.input_size, features.shape[2:]
        cells = [[-(-h * feature_size[0] // height), -(-w * feature_size[1] // width)] for h, w in sizes]
        return cropped_pool(features, cells)

    def pooling_weights(self, feature_size: tuple[int, int]) -> Optional[Tensor]:
        """(N, h * w) weights of the averages on a map of this size, where they are taken with weights; else None."""
        if self._unpadded or self._reads_values:
            return None
        if feature_size not in self._weights:
            self._weights[feature_size] = pooling_weights(self._sizes, self.input_size, feature_size, self._dtype)
        return self._weights[feature_size]

    def decide(self, name: str, gate: BaseGate, x: Tensor) -> Optional[Tensor]:
        """Lets a gate decide about a block, and keeps what it says.

        Args:
            name: Of the block.
            gate: Its gate.
            x: (N, C, h, w), the block's input.

        Returns:
            (N,) decisions; None if all images are open ones, and nobody was asked.

        Raises:
            ValueError: If decisions are forced and of another number of images.
        """
        return None if self._all_open else self.decide_from(name, gate, self.pool(x))

    def decide_from(self, name: str, gate: BaseGate, pooled: Tensor) -> Optional[Tensor]:
        """:meth:`decide` from the average of the block's input, (N, C)."""
        if self._all_open:
            return None
        gates = list(self.decisions.gates.values())
        before = gates[-1] if gates else None
        decision, logit, features = ask(gate, pooled[self.open_images:] if self.open_images else pooled, before)
        if self.forced is not None:
            decision = self._force(name, decision)
        self.decisions.gates[name] = decision
        self.decisions.gate_logits[name] = logit
        if features is not None:
            self.decisions.gate_features[name] = features
        return self._of_all_images(decision)

    def follow(self, name: str, leader: str) -> Optional[Tensor]:
        """What the gate of another block has decided, for a block of the same group; as :meth:`decide`."""
        if self._all_open:
            return None
        decision = self.decisions.gates[name] = self.decisions.gates[leader]
        return self._of_all_images(decision)

    def open_index(self, decision: Tensor) -> Tensor:
        """(N,) decisions -> (M,) indices of the open images, which the host waits for: once a gate, and not once a block."""
        if decision not in self._open_index:
            self._open_index[decision] = torch.nonzero(decision).flatten()
        return self._open_index[decision]

    def _of_all_images(self, decision: Tensor) -> Tensor:
        return torch.cat([decision.new_ones(self.open_images), decision]) if self.open_images else decision

    def _force(self, name: str, decision: Tensor) -> Tensor:
        if isinstance(self.forced, str):
            forced = torch.full_like(decision, float(self.forced == 'open'))
        elif name in self.forced:
            forced = self.forced[name].to(decision)
            if not forced.dim():  # the same for all images
                forced = forced.expand_as(decision)
            if forced.shape != decision.shape:
                raise ValueError(f'forced decisions of block {name!r} must have shape '
                                 f'{tuple(decision.shape)} for this batch, got {tuple(forced.shape)}')
        else:
            return decision
        # A value that asks for its own gradient gets it; others let the gate learn.
        return forced if forced.requires_grad else straight_through(forced, decision)

    def keep_adjacency(self, stage: str, adjacency: Tensor) -> None:
        """Keeps the (N, n+1, n+1) adjacency of a wired stage, of the images after the open ones."""
        if not self._all_open:
            self.decisions.adjacency[stage] = adjacency[self.open_images:] if self.open_images else adjacency

    def forced_adjacency(self, stage: str, images: int) -> Optional[Tensor]:
        """(1 or N, n+1, n+1): what a wired stage is to use instead of its routers' decisions, if anything.

        Raises:
            ValueError: If it is for another number of images.
        """
        forced = (self.forced or {}).get(stage)
        if forced is not None and forced.dim() == 3 and len(forced) not in (1, images):
            raise ValueError(f'the forced adjacency of {stage} is for {len(forced)} images, but the '
                             f'batch has {images}')
        return forced


def require_pass(forward_pass: Optional[ForwardPass], name: str) -> ForwardPass:
    """Returns the pass, or says what was called without one.

    Raises:
        TypeError: If there is none.
    """
    if forward_pass is None:
        raise TypeError(f'{name} decides image by image and is called by its backbone, with forward_pass=; got none. '
                        'Call the backbone, or a static one with the same weights.')
    return forward_pass


def _full_sizes(images: Tensor) -> Tensor:
    """(N, 2), without a copy from the host."""
    sizes = torch.full((len(images), 2), images.shape[2], dtype=torch.int64, device=images.device)
    sizes[:, 1] = images.shape[3]
    return sizes
