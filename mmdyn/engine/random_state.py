"""All random states that training draws from, as plain values for a checkpoint."""
import random
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader


def get_random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators; of the current GPU's too, if there is one."""
    name, keys, *rest = np.random.get_state()
    state = dict(
        python=random.getstate(),
        # A tensor, so that the checkpoint holds nothing that safe unpickling refuses.
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Puts back what :func:`get_random_state` has returned."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def sampler_of(loader: DataLoader) -> Any:
    """The sampler that orders the data; MMEngine may have put a batch sampler around it."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def separate_generator(loader: DataLoader) -> None:
    """Lets the loader draw from a generator of its own.

    Every new iterator draws a seed for its workers. From the global generator, that would change what the model draws,
    and a resumed training makes an iterator where an uninterrupted one goes on with its own.
    """
    loader.generator = torch.Generator().manual_seed(0)  # MMEngine's worker_init_fn seeds the workers itself


def seed_workers(loader: DataLoader, *, seed: int, step: int, world_size: int) -> None:
    """Lets the loader start its workers anew, with seeds of that epoch.

    The random states inside the workers are out of reach of a checkpoint. Workers that persist would carry them from one
    epoch into the next; without persistence, MMEngine seeds every epoch alike, so that augmentations repeat.

    Args:
        loader: The training's. One with a ``worker_init_fn`` of the user's is left alone.
        seed: That of the training.
        step: Iterations before this epoch.
        world_size: Processes that load data.
    """
    function = loader.worker_init_fn
    if not loader.num_workers or getattr(function, 'func', None) is not worker_init_fn:
        return
    # Within an epoch, MMEngine numbers the seeds by rank and worker.
    seed += step * world_size * loader.num_workers
    loader.worker_init_fn = partial(function.func, **{**function.keywords, 'seed': seed})
    loader._iterator = None  # torch keeps persistent workers here, and offers no way to end them
