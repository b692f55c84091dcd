"""Has the Runner read its checkpoints with mmdyn's own reader, which runs nothing that they carry.

mmengine unpickles a checkpoint without restriction when the safe way fails, as it does on mmengine's own checkpoints.
Its loaders are chosen by the prefix of the path, and anyone may add one: that is done here, and paths get its prefix.
"""
import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..checkpoints import CheckpointError, KeyMatch, LogHistory, read_checkpoint, state_dict_of
from .command_line import check_file
from .resume import find_last_checkpoint
from .unwrapped import unwrapped

PREFIX = 'mmdyn-data://'


@CheckpointLoader.register_scheme(prefixes=PREFIX)
def load_from_mmdyn_data(filename: str, map_location: Any) -> dict[str, Any]:
    """Reads ``mmdyn-data://path``, safetensors or pickled tensors, onto the CPU; who loads it moves it.

    Raises:
        CheckpointError: The file is absent, broken or carries code.
    """
    checkpoint = read_checkpoint(os.path.expanduser(filename.removeprefix(PREFIX)))
    scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
    for name, history in scalars.items():
        if isinstance(history, LogHistory):
            scalars[name] = HistoryBuffer(history._log_history, history._count_history, history.max_length)
    return checkpoint


def guard_load_from(cfg: Config) -> None:
    """Gives what a config loads or resumes from the prefix, and reads it: what is refused is refused now.

    Checkpoints with a scheme of their own, such as https:// and torchvision://, are fetched and read by mmengine.

    Raises:
        InputError, CheckpointError: The file is absent, broken or carries code.
    """
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from = find_last_checkpoint(cfg.work_dir)
    if cfg.get('load_from'):
        cfg.load_from = guarded(cfg.load_from)


def guard_initial_weights(cfg: Config) -> None:
    """Does the same to every ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of the model."""
    pending = [cfg.model]
    while pending:
        node = pending.pop()
        if isinstance(node, (list, tuple)):
            pending.extend(node)
        elif isinstance(node, MutableMapping):
            if node.get('type') == 'Pretrained' and isinstance(node.get('checkpoint'), str):
                node['checkpoint'] = guarded(node['checkpoint'])
            pending.extend(node.values())


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], path: str, prefix: str = '') -> str:
    """Compares weights with what a model expects.

    Args:
        model: To be loaded.
        weights: Name -> tensor.
        path: Where they are from, for the messages.
        prefix: Only what is named so counts.

    Returns:
        A sentence on what matched.

    Raises:
        CheckpointError: If something is missing, left over or of another shape, as where the checkpoint is of a network of
            another depth, or of a static one.
    """
    wanted, given = ({name: value for name, value in named.items() if name.startswith(prefix)}
                     for named in (model.state_dict(), weights))
    match = KeyMatch.of(wanted, given)
    if not match.is_complete:
        raise CheckpointError(f'{path} is not of the model that the config describes (another depth, other classes, or a '
                         f'static backbone?): {match.summary()}\n{match.details()}')
    return match.summary()


def require_fit(model: nn.Module, path: str) -> None:
    """Loads a checkpoint whose every key must fit, where mmengine would log what does not and go on.

    Args:
        model: The Runner's.
        path: As the Runner would load it.

    Raises:
        CheckpointError: Naming what is missing, left over or of another shape.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    model = unwrapped(model)
    weights = state_dict_of(checkpoint, path)
    check_weights(model, weights, path.removeprefix(PREFIX))
    model.load_state_dict(weights)


def guarded(path: str) -> str:
    """A path with the prefix, once what it names has been read; one with a scheme of its own stays as it is.

    Raises:
        InputError, CheckpointError: The file is absent, broken or carries code.
    """
    if '://' in path and not path.startswith(PREFIX):
        return path
    path = os.path.expanduser(path.removeprefix(PREFIX))
    check_file(path, 'a checkpoint')
    read_checkpoint(path)
    return PREFIX + path
