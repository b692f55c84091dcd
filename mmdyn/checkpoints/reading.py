"""Reads checkpoint files. They are data: nothing in them is called, imported or run.

``torch.load(weights_only=True)`` builds tensors and plain containers alone. Checkpoints of MMEngine
hold a little more, for which there is an allow-list: numbers and arrays of NumPy, and the history
of logged values, for whose class an empty one stands in.
"""
import codecs
import json
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError
from .old_torch import load_restricted

PathLike = Union[str, os.PathLike]

# Where other projects keep the weights.
STATE_DICT_KEYS = ('state_dict', 'model_state_dict', 'model')
# Safetensors takes text alone as metadata; under this name it is JSON.
METADATA_ENTRY = 'mmdyn'


class LogHistory:
    """Stands in for ``mmengine.logging.HistoryBuffer``; has its fields, and no methods."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        state.pop('statistics_methods', None)
        self.__dict__.update(state)


def _method_name(owner: object, name: object) -> str:
    """Stands in for ``getattr``, with which a HistoryBuffer names its own statistics."""
    if owner is not LogHistory or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')
    return str(name)


def _allowed() -> dict[str, Any]:
    """Dotted name -> what stands for it, beside what PyTorch itself allows."""
    allowed: dict[str, Any] = {'numpy.ndarray': np.ndarray, 'numpy.dtype': np.dtype,
               'mmengine.logging.history_buffer.HistoryBuffer': LogHistory,
               'builtins.getattr': _method_name}
    kinds: set[type] = {type(np.dtype(code)) for code in '?bBhHiIlLqQefd'}
    for kind in kinds:
        allowed[f'{kind.__module__}.{kind.__qualname__}'] = kind
    # NumPy's own constructors, whatever the module is called in which this version keeps them.
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):  # since and before NumPy 2
        allowed |= {f'{module}._reconstruct': reconstruct, f'{module}.scalar': scalar}
    return allowed


def _load(path: str) -> Any:
    if not hasattr(torch.serialization, 'safe_globals'):
        return load_restricted(path, _allowed())
    with torch.serialization.safe_globals([(value, name) for name, value in _allowed().items()]):
        return torch.load(path, map_location='cpu', weights_only=True)


def read_checkpoint(path: PathLike) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, without running anything that it may carry.

    Args:
        path: A file of ``torch.save``, or of safetensors, whose metadata and weights are returned
            as ``meta`` and ``state_dict``.

    Raises:
        CheckpointError: If the file is absent, empty, cut off, corrupted, carries code, or is not
            a checkpoint.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        found = 'a folder' if os.path.isdir(path) else 'nothing'
        raise CheckpointError(f'expected a checkpoint, found {found} at {path}')
    if os.path.getsize(path) == 0:
        raise CheckpointError(f'expected a checkpoint, found an empty file at {path}')
    if path.endswith('.safetensors'):
        return _read_safetensors(path)
    try:
        checkpoint = _load(path)
    except Exception as error:  # A broken file may make the readers raise anything.
        raise CheckpointError(_reason(path, error)) from None
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(
            f'expected a checkpoint, a dict, found a {type(checkpoint).__name__} in {path}')
    return dict(checkpoint)


def _read_safetensors(path: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework='pt') as file:
            meta = file.metadata() or {}
            return dict(meta=json.loads(meta[METADATA_ENTRY]) if METADATA_ENTRY in meta else meta,
                        state_dict={key: file.get_tensor(key) for key in file.keys()})
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f'{path} is corrupted or cut off: {error}') from None


def _reason(path: str, error: Exception) -> str:
    carried = re.search(r'GLOBAL (\S+)|unrecognized function (\S+)', str(error))
    if isinstance(error, pickle.UnpicklingError) and carried:
        return (f'{path} carries {carried[1] or carried[2]}, which is not data: it was refused and not run. A '
                'checkpoint may hold tensors, numbers, text, containers of them and logged values')
    text = _beginning_of_text(path)
    if text is not None:
        return f'expected a checkpoint, a file of torch.save or safetensors, found text in {path}: it begins {text!r}'
    first_line = str(error).partition('\n')[0] or type(error).__name__
    if 'weights_only' in first_line:  # PyTorch's advice to switch the check off
        first_line = 'it is not data that torch.save has written'
    return f'{path} is corrupted, cut off or not a checkpoint: {first_line}'


def _beginning_of_text(path: str) -> Optional[str]:
    """The first words of a file of text, None for anything else."""
    with open(path, 'rb') as file:
        beginning = file.read(1000)
    try:
        words = codecs.getincrementaldecoder('utf-8')().decode(beginning).split()  # the last letter may be cut in two
    except UnicodeDecodeError:
        return None
    return ' '.join(words)[:40] if ''.join(words).isprintable() else None


def state_dict_of(checkpoint: Mapping[str, Any], path: PathLike) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the ``module.`` of a distributed model.

    Args:
        checkpoint: From :func:`read_checkpoint`.
        path: Where it is from, for the message.

    Raises:
        CheckpointError: If there are none, or something else among them.
    """
    weights = next((checkpoint[key] for key in STATE_DICT_KEYS if key in checkpoint), checkpoint)
    if not isinstance(weights, Mapping) or not weights:
        raise CheckpointError(f'expected a state_dict of weights, found none in {path}')
    for key, value in weights.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f'expected a state_dict of tensors in {path}, found '
                                  f'{key!r}: {type(value).__name__}')
    if all(key.startswith('module.') for key in weights):
        return {key.removeprefix('module.'): value for key, value in weights.items()}
    return dict(weights)


def read_state_dict(path: PathLike) -> dict[str, Tensor]:
    """The weights in a checkpoint file: :func:`read_checkpoint`, then :func:`state_dict_of`."""
    return state_dict_of(read_checkpoint(path), path)
