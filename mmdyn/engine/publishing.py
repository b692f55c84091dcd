"""Makes the checkpoint of a training run fit to be given away: the weights alone, with metadata, named by their SHA-256."""
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..checkpoints import METADATA_ENTRY, read_checkpoint, state_dict_of
from .atomic_backend import write_atomically
from .errors import InputError

# Of mmengine's metadata, what does not tell where and by whom the run was made.
KEPT_METADATA = ('epoch', 'iter', 'time', 'mmengine_version', 'dataset_meta')


def metadata(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What is known of the run."""
    meta = checkpoint.get('meta') or {}
    return {name: meta[name] for name in KEPT_METADATA if name in meta} | dict(mmdyn_version=__version__)


def write_hashed(weights: dict[str, Tensor], meta: dict[str, Any], dst: Path, extension: str) -> Path:
    """Writes the file and names it by what is in it.

    Raises:
        InputError: If DST looks like a file name with an extension, or safetensors is not installed.
    """
    if dst.suffix in ('.pth', '.safetensors'):
        raise InputError(f'DST expects a name without extension, which the hash and the format complete, got {dst}')
    if extension == 'pth':
        buffer = io.BytesIO()
        torch.save(dict(meta=meta, state_dict=weights), buffer)
        content = buffer.getvalue()
    else:
        try:
            from safetensors.torch import save
        except ImportError:
            raise InputError('--format safetensors needs the package: pip install safetensors') from None
        # One entry: safetensors writes several in any order, and the hash would change.
        content = save(weights, metadata={METADATA_ENTRY: json.dumps(meta)})
    # Written here, with the permissions that any file gets: safetensors writes for the owner's eyes alone.
    path = dst.with_name(f'{dst.name}-{hashlib.sha256(content).hexdigest()[:8]}.{extension}')
    write_atomically(content, path)
    return path


def publish(src: str, dst: Path, extension: str) -> str:
    """Writes the weights of a checkpoint, and what of its metadata does not tell of the run.

    Args:
        src: Checkpoint of a training run.
        dst: Path and first part of the name of the file to write.
        extension: 'safetensors' or 'pth'.

    Returns:
        What was written, what was left out, and the hash.

    Raises:
        InputError, CheckpointError: If SRC cannot be read or DST not be written to.
    """
    checkpoint = read_checkpoint(src)
    # Of its own memory each: safetensors takes no views, and a view would drag its whole storage along.
    weights = {key: value.clone().contiguous() for key, value in state_dict_of(checkpoint, src).items()}
    written = write_hashed(weights, metadata(checkpoint), dst, extension)
    dropped = sorted(set(checkpoint) - {'state_dict', 'meta'})
    return (f'{written}: {len(weights)} weights, {written.stat().st_size / 2**20:.1f} MiB, was '
            f'{Path(src).stat().st_size / 2**20:.1f} MiB; left out: {", ".join(dropped) or "nothing"}\n'
            f'sha256: {hashlib.sha256(written.read_bytes()).hexdigest()}')
