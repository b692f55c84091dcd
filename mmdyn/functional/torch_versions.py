"""What PyTorch's releases since 2.1 spell differently, or lack."""
import torch
from torch import Tensor

# Public since 2.3. Looked up once: the compiler of 2.1 knows the function, and not how to look for it.
_is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling
_BMM_HAS_OUT_DTYPE = hasattr(torch.ops.aten.bmm, 'dtype')  # since 2.8


def is_traced() -> bool:
    """Whether the running code is being compiled or exported, so that nothing may depend on values."""
    return torch.jit.is_tracing() or _is_compiling()


def can_widen_products(maps: Tensor) -> bool:
    """Whether ``torch.bmm`` of half precision can return float32 (``out_dtype``): in new releases, on GPUs."""
    return _BMM_HAS_OUT_DTYPE and maps.device.type == 'cuda'


def multiplies_in_tf32(maps: Tensor) -> bool:
    """Whether the factors of matrix products are rounded to ten bits on a GPU, as users may allow."""
    if maps.device.type != 'cuda' or maps.dtype != torch.float32:
        return False
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, 'fp32_precision', None)  # since 2.9, which no longer answers to the old name in all cases
    return matmul.allow_tf32 if precision is None else precision == 'tf32'


def add_product_(out: Tensor, factor: Tensor, other: Tensor) -> None:
    """``out += factor * other``, factors of float32 and rounded once."""
    if out.dtype == factor.dtype or out.device.type != 'cpu' or _ADDCMUL_MIXES_DTYPES:
        out.addcmul_(factor, other)
    else:
        out.add_(factor * other)


def _addcmul_mixes_dtypes() -> bool:
    """Whether the kernel of CPUs does; that of 2.1 fails."""
    try:
        torch.zeros(1, dtype=torch.bfloat16).addcmul_(torch.zeros(1), torch.zeros(1))
    except RuntimeError:
        return False
    return True


_ADDCMUL_MIXES_DTYPES = _addcmul_mixes_dtypes()  # before anything is traced
