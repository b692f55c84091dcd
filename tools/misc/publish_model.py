"""Makes the checkpoint of a training run fit to be given away: the weights alone, with metadata, named by their SHA-256.

    python tools/misc/publish_model.py work_dirs/aig-r50_8xb32_in1k/epoch_100.pth published/aig-r50_8xb32_in1k

writes published/aig-r50_8xb32_in1k-<the first 8 digits of the hash>.safetensors. Optimizer, schedulers, message hub and
the local paths of the run stay behind. mmdyn's tools read such files; --format pth writes one that mmengine reads too.
"""
import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from mmdyn import __version__
from mmdyn.checkpoints import METADATA_ENTRY, read_checkpoint, state_dict_of
from mmdyn.engine import InputError, exit_on_bad_input
from torch import Tensor

# Of mmengine's metadata, what does not tell where and by whom the run was made.
KEPT_METADATA = ('epoch', 'iter', 'time', 'mmengine_version', 'dataset_meta')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a training run')
    parser.add_argument('dst', metavar='DST', type=Path, help='path and first part of the name of the file to write')
    parser.add_argument('--format', choices=('safetensors', 'pth'), default='safetensors')
    return parser.parse_args()


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
    dst.parent.mkdir(parents=True, exist_ok=True)
    partial = dst.with_name(f'{dst.name}.partial')
    if extension == 'pth':
        torch.save(dict(meta=meta, state_dict=weights), partial)
    else:
        try:
            from safetensors.torch import save_file
        except ImportError:
            raise InputError('--format safetensors needs the package: pip install safetensors') from None
        # One entry: safetensors writes several in any order, and the hash would change.
        save_file(weights, partial, metadata={METADATA_ENTRY: json.dumps(meta)})
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    return partial.rename(dst.with_name(f'{dst.name}-{digest[:8]}.{extension}'))


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        checkpoint = read_checkpoint(args.src)
        # Of its own memory each: safetensors takes no views, and a view would drag its whole storage along.
        weights = {key: value.clone().contiguous() for key, value in state_dict_of(checkpoint, args.src).items()}
        written = write_hashed(weights, metadata(checkpoint), args.dst, args.format)
    dropped = sorted(set(checkpoint) - {'state_dict', 'meta'})
    print(f'{written}: {len(weights)} weights, {written.stat().st_size / 2**20:.1f} MiB, was '
          f'{Path(args.src).stat().st_size / 2**20:.1f} MiB; left out: {", ".join(dropped) or "nothing"}')
    print(f'sha256: {hashlib.sha256(written.read_bytes()).hexdigest()}')


if __name__ == '__main__':
    main()
