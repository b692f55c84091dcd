"""The model in a data-parallel wrapper."""
from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, whether it is in a wrapper of MMEngine's or not."""
    return model.module if is_model_wrapper(model) else model
