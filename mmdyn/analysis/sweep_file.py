"""What a sweep has found so far, in a file: a sweep that was interrupted goes on where it was."""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engine import InputError
from ..engine.atomic_backend import write_atomically

LISTS = ('settings', 'choices', 'points')


class SweepFile:
    """Lists of rows, written whenever one is added.

    ``settings`` are the values that meet budgets, ``choices`` the fixed choices of gates that were tried on training
    images, ``points`` the evaluations.

    Args:
        path: Of the JSON file.
        header: What all rows have in common.

    Raises:
        InputError: If the file holds rows of something else.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
        if path.is_file():
            content = json.loads(path.read_text())
            found = {name: value for name, value in content.items() if name not in LISTS}
            if found != header:
                raise InputError(f'{path} holds the points of something else: expected {header}, found {found}; '
                                 'name another folder with --out, or remove the file')
            self.rows.update((name, content[name]) for name in LISTS if name in content)

    def once(self, name: str, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of a list that has this key; made and written if it is not there yet."""
        for row in self.rows[name]:
            if all(row.get(entry) == value for entry, value in key.items()):
                return row
        row = dict(key, **make())
        self.rows[name].append(row)
        write_atomically((json.dumps(dict(self.header, **self.rows), indent=1) + '\n').encode(), self.path)
        return row
