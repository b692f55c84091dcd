"""Arithmetic of a device with numbers of the host."""
from typing import Sequence

import torch
from torch import Tensor


def minus(values: Tensor, numbers: Sequence[float]) -> Tensor:
    """(L,) less L numbers, element by element; they go along with the operation, where a tensor of them would be copied."""
    return torch.stack(torch._foreach_sub(list(values.unbind()), list(numbers)))


def dot(values: Tensor, numbers: Sequence[float]) -> Tensor:
    """Sum of the products of (L,) values and L numbers."""
    return torch.stack(torch._foreach_mul(list(values.unbind()), list(numbers))).sum()
