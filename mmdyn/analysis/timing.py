"""How long functions take beside each other, and what they keep for the backward pass."""
import gc
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def interleave(functions: Mapping[str, Callable[[], object]],
               runs: int,
               warm_up: int = 2,
               prepare: Callable[[str], None] = lambda name: None,
               synchronise: Callable[[], None] = lambda: None,
               clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Runs functions in turn, round after round, and times each call.

    Args:
        functions: Name -> what to time.
        runs: Rounds that count.
        warm_up: Rounds before them.
        prepare: Called with the name, untimed, before each call.
        synchronise: Waits until the device has finished.
        clock: In seconds.

    Returns:
        Name -> seconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warm_up, runs):
            names = list(functions)
            # Whoever runs second finds the caches as the first has left them.
            for name in names if turn % 2 else reversed(names):
                prepare(name)
                synchronise()
                start = clock()
                functions[name]()
                synchronise()
                if turn >= 0:
                    times[name].append(clock() - start)
    finally:
        gc.enable()
    return times


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes kept for the backward pass: all storages that autograd saves, each once, parameters left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()  # held: a storage that were freed could lend its address to another
    total = sum(saved.values())
    del output
    return total
