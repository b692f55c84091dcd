"""Files that are either whole or not there, whenever the process is killed."""
import os
from pathlib import Path
from typing import Union

from mmengine.fileio import LocalBackend, register_backend

_PART = '.{}.part'  # beside the file: a rename is atomic within one file system only


def write_atomically(data: bytes, path: Union[str, Path]) -> None:
    """Writes a file aside, waits until it is on the disk and renames it to its path.

    Whoever opens the path finds what was there before, or all of the new content.

    Args:
        data: The new content.
        path: On a local file system; its folder is made if need be.

    Raises:
        OSError: The disk is full, read-only or broken; what was at the path before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(_PART.format(path.name))
    try:
        with open(part, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Waits until a rename in the folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Union[str, Path]) -> None:
    """Removes what a process that was killed while writing has left aside."""
    for part in Path(folder).glob(_PART.format('*')):
        part.unlink(missing_ok=True)


@register_backend('mmdyn.atomic')
class AtomicBackend(LocalBackend):
    """MMEngine's local files, written atomically, and removed only when :meth:`remove_now` is called.

    MMEngine's checkpoint hook removes an old checkpoint before it writes the new one. Here the removal waits.
    """

    def __init__(self) -> None:
        self._removed: list[str] = []

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        write_atomically(obj, filepath)

    def remove(self, filepath: Union[str, Path]) -> None:
        self._removed.append(str(filepath))

    def remove_now(self, *, keep: set[str]) -> None:
        """Removes what has been asked for, but for those files that have been written again since."""
        for path in self._removed:
            if path not in keep:
                Path(path).unlink(missing_ok=True)
        self._removed.clear()
