"""One forward of a dynamic backbone while it is captured: nothing depends on values or on known sizes."""
from typing import Optional

from torch import Tensor

from ..backbones.dynamic_backbone import DynamicBackbone
from ..functional.pooling import pooling_weights, valid_cells
from ..layers.forward_pass import ForwardPass


class ExportPass(ForwardPass):
    """A pass whose pooling is one product of a matrix with a vector, for maps whose size may be a symbol."""

    _captured: dict[str, Tensor]

    @classmethod
    def begin(cls, backbone: DynamicBackbone, images: Tensor) -> 'ExportPass':
        """The pass that the backbone begins, with its threshold and forced decisions, pooling as here."""
        forward_pass = backbone.begin_forward(images)
        forward_pass.__class__ = cls
        assert isinstance(forward_pass, cls)
        forward_pass._captured = {}
        return forward_pass

    def pool(self, features: Tensor, images: Optional[list[int]] = None) -> Tensor:
        """Averages over each image's valid part: (N, C, h, w) -> (N, C)."""
        return pool_cells(features, self.cell_weights(features))

    def cell_weights(self, features: Tensor) -> Tensor:
        """(N, h * w) weights of the averages over maps of this size, captured once."""
        size = (features.shape[2], features.shape[3])
        name = str(size)  # a symbol cannot be hashed
        if name not in self._captured:
            self._captured[name] = pooling_weights(valid_cells(self.decisions.sizes, self.input_size, size), size)
        return self._captured[name]


def pool_cells(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted averages, without the transposed copy of the maps that PyTorch's CPU kernels would rather have.

    Args:
        features: (N, C, h, w).
        weights: (N, h * w), of `ExportPass.cell_weights`.

    Returns:
        (N, C).
    """
    return (features.flatten(2) @ weights[:, :, None]).squeeze(2)
