"""Which checkpoint a training goes on from."""
import os
import re
import sys
import zipfile
from pathlib import Path

from .errors import InputError

# The names that mmengine's checkpoint hook gives; the best ones (best_*.pth) come without the optimiser's state.
CHECKPOINT_NAME = re.compile(r'(epoch|iter)_\d+\.pth')


def is_whole(path: Path) -> bool:
    """Whether a checkpoint can be read to its end: torch writes zip files, with check sums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def find_last_checkpoint(work_dir: str) -> str | None:
    """The newest whole checkpoint of a work dir.

    That is the one that `last_checkpoint` names, unless it was cut off or has gone: then, the newest of the others.

    Args:
        work_dir: Where the training was; it need not be there yet.

    Returns:
        Its path, or None if there is no checkpoint at all.

    Raises:
        InputError: There are checkpoints, and none of them is whole.
    """
    named = _read_pointer(Path(work_dir))
    if '://' in (named or ''):
        return named  # not on a disk: mmengine finds and fetches it
    candidates = [Path(named), Path(work_dir) / Path(named).name] if named else []
    folders = dict.fromkeys([Path(work_dir), *(path.parent for path in candidates)])
    others = [path for folder in folders for path in folder.glob('*.pth') if CHECKPOINT_NAME.fullmatch(path.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    damaged: list[Path] = []
    for path in dict.fromkeys([*candidates, *others]):
        if is_whole(path):
            if damaged and os.environ.get('RANK', '0') == '0':
                print(f'cannot be read: {", ".join(map(str, damaged))}; going on from {path}', file=sys.stderr)
            return str(path)
        damaged.append(path)
    if damaged:
        raise InputError(f'--resume expects a whole checkpoint in {work_dir}, but none of these can be read: '
                         f'{", ".join(map(str, damaged))}')
    return None


def _read_pointer(work_dir: Path) -> str | None:
    """What `last_checkpoint` says; nothing if it is absent or empty."""
    try:
        return (work_dir / 'last_checkpoint').read_text().strip() or None
    except OSError:
        return None
