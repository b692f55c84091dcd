"""The model that others have wrapped."""
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself: not its data-parallel or compiled wrapper, nor the one that augments its images at test time."""
    while True:
        if is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        elif hasattr(model, '_orig_mod'):  # torch.compile's
            model = model._orig_mod
        else:
            return model
