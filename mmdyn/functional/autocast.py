"""What is computed in full precision whatever mixed precision is asked for."""
import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> torch.autocast:
    """A context in which operators on the tensor's device keep the dtypes that they are given."""
    # Tensors without contents know no autocast.
    return torch.autocast('cpu' if tensor.is_meta else tensor.device.type, enabled=False)
