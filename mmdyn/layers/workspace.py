"""Memory that a backbone keeps between forward passes."""
import torch
from torch import Tensor

from ..functional.torch_versions import is_traced


class Workspace:
    """One block of main memory, handed out to one user at a time.

    The C library returns large blocks to the system at once, and touching fresh pages costs ten
    times as much as writing to them (measured: 0.45 s a GB); the buffer of a wired stage has a
    hundred MB. GPUs need none of this, PyTorch keeps their memory. Copies of a model and
    checkpoints leave the contents out.
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised tensor, of the dtype and on the device of ``like``."""
        if like.device.type != 'cpu' or is_traced():  # a compiler plans its memory itself
            return like.new_empty(shape)
        try:
            kept = self._kept.pop()  # in one step: a second thread gets memory of its own
        except IndexError:
            kept = None
        wanted = torch.Size(shape).numel() * like.element_size()
        if kept is None or kept.numel() < wanted:
            with torch.inference_mode(False):
                kept = torch.empty(wanted, dtype=torch.uint8)
        return kept[:wanted].view(like.dtype).view(shape)

    def give(self, tensor: Tensor) -> None:
        """Returns what :meth:`take` gave; nothing may refer to it any more."""
        if tensor.device.type == 'cpu':
            storage = tensor.untyped_storage()
            with torch.inference_mode(False):
                self._kept[:] = [torch.empty(0, dtype=torch.uint8).set_(storage)]

    def __deepcopy__(self, memo: dict) -> 'Workspace':
        return Workspace()

    def __getstate__(self) -> dict:
        return {'_kept': []}
