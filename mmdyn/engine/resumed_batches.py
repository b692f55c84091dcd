"""Where a resumed training goes on in the data, with releases of MMEngine that get there by loading what they skip."""
from typing import Any, Optional

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator

from .random_state import sampler_of, set_random_state


class _RestoringIterator:
    """Puts the random states back between the last batch that is skipped and the first one that is not."""

    def __init__(self, batches: Any, *, skipped: int, state: Optional[dict[str, Any]]) -> None:
        self.batches = batches
        self.left = skipped
        self.state = state

    def __next__(self) -> Any:
        if self.left == 0 and self.state is not None:
            set_random_state(self.state)
        self.left -= 1
        return next(self.batches)


def resume_batches(loop: BaseLoop, state: Optional[dict[str, Any]]) -> None:
    """Lets an iteration-based loop skip what was trained on as if it had not been loaded.

    MMEngine before OneDL's 0.10.12 asks for the first batches when it builds the loop, before the sampler has the seed
    of the checkpoint, and then loads all that it skips, which draws from the random generators. Other loops, and later
    releases, are left alone.

    Args:
        loop: The training's, about to run; its sampler has the seed of the checkpoint.
        state: The random states to go on from (:func:`get_random_state`); None to keep what the skipping leaves.
    """
    batches = getattr(loop, 'dataloader_iterator', None)
    if not isinstance(batches, _InfiniteDataloaderIterator) or hasattr(batches, 'skip_iter'):
        return
    sampler = sampler_of(loop.dataloader)
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = InfiniteSampler(sampler.dataset, shuffle=sampler.shuffle, seed=sampler.seed).indices
    batches = _InfiniteDataloaderIterator(loop.dataloader)
    loop.dataloader_iterator = _RestoringIterator(batches, skipped=loop.iter, state=state)
