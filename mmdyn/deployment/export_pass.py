"""One forward of a dynamic backbone while it is captured: nothing depends on values or on known sizes, little runs."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from ..backbones.dynamic_backbone import DynamicBackbone
from ..functional.pooling import average_over, last_true
from ..layers.forward_pass import ForwardPass


class ExportPass(ForwardPass):
    """A pass whose pooling is one product of a matrix with a vector, for maps whose size may be a symbol."""

    image_sizes: Tensor
    _captured: dict[str, Tensor]

    @classmethod
    def begin(cls, backbone: DynamicBackbone, images: Tensor) -> 'ExportPass':
        """The pass that the backbone begins, with its threshold and forced decisions, pooling as here."""
        forward_pass = backbone.begin_forward(images)
        forward_pass.__class__ = cls
        assert isinstance(forward_pass, cls)
        frame = [torch.full((len(images), ), side) for side in images.shape[2:]]
        forward_pass.image_sizes = torch.stack(frame, dim=1) if backbone.pool_padding else image_sizes(images)
        forward_pass._captured = {}
        return forward_pass

    def pool(self, features: Tensor, images: Optional[Sequence[int]] = None) -> Tensor:
        """Averages over each image's valid part: (N, C, h, w) -> (N, C)."""
        return pool_cells(features, self.cell_weights(features))

    def cell_weights(self, features: Tensor) -> Tensor:
        """(N, h * w) weights of the averages over maps of this size, captured once."""
        size = (features.shape[2], features.shape[3])
        name = str(size)  # a symbol cannot be hashed
        if name not in self._captured:
            # As `pooling_weights`; in double precision the quotients are as good as whole numbers' own division.
            sizes = self.image_sizes.double()
            cells = [torch.ceil(sizes[:, i] * size[i] / self.input_size[i]) for i in range(2)]
            self._captured[name] = average_over(*(torch.arange(size[i]) < cells[i][:, None] for i in range(2)))
        return self._captured[name]


def pool_cells(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted averages, without the transposed copy of the maps that PyTorch's CPU kernels would rather have.

    Args:
        features: (N, C, h, w).
        weights: (N, h * w), of `ExportPass.cell_weights`.

    Returns:
        (N, C).
    """
    return (features.flatten(2) @ weights.to(features.dtype)[:, :, None]).squeeze(2)


def image_sizes(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 2) int64 heights and widths without padding: what ``valid_sizes`` gives, by sums over rows and
    columns that are products with ones, the fastest that onnxruntime has."""
    count, channels, height, width = images.shape
    filled = images.abs().reshape(count, channels * height, width)
    rows = (filled @ torch.ones(width, 1)).view(count, channels, height).sum(dim=1)
    columns = (torch.ones(1, channels * height) @ filled).squeeze(1)
    return torch.stack([last_true(rows > 0), last_true(columns > 0)], dim=1)
