"""Multiply-adds of a backbone as a graph can count them: a number, or a number and so much more for each cell."""
from torch import nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount
from ..cost.measure import count_macs
from ..engine import InputError

Size = tuple[int, int]


class BackboneCost:
    """Multiply-adds of the whole backbone, and of the blocks that may be left out.

    Args:
        backbone: Dynamic or static.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.account = CostAccount(backbone) if isinstance(backbone, DynamicBackbone) else None
        self.stride = self.account.stride if self.account else _stride_of(backbone)

    def at(self, size: Size) -> dict[str, int]:
        """Name -> multiply-adds for an image of (H, W) pixels, of the conditional blocks, and in all under ''."""
        if self.account:
            return {'': self.account.dense_macs(size), **self.account.conditional_macs(size)}
        return {'': sum(count_macs(self.backbone, size)[0].values())}

    def by_cells(self) -> dict[str, tuple[int, int]]:
        """Name -> multiply-adds whatever the size, and for each cell of stride x stride pixels of the image.

        Raises:
            InputError: If some part's multiply-adds do not grow with the image's area.
        """
        one, four, nine = (self.at((n * self.stride, n * self.stride)) for n in (1, 2, 3))
        rates = {name: (four[name] - one[name]) // 3 for name in one}
        parts = {name: (one[name] - rate, rate) for name, rate in rates.items()}
        for name, (constant, rate) in parts.items():
            if any(constant + n * rate != measured[name] for n, measured in ((4, four), (9, nine))):
                raise InputError(f'the multiply-adds of {name or "the backbone"} do not grow with the area of the '
                                 'image, so they cannot be counted for images of any size: leave --dynamic out')
        return parts


def _stride_of(backbone: nn.Module) -> int:
    """Pixels of the input to a cell of a static backbone's coarsest feature map."""
    side = 256
    _, features = count_macs(backbone, (side, side))
    return max(side // maps.shape[2] for maps in features)
