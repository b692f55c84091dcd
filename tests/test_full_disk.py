"""Folders that cannot be written to, for real: file systems mounted for the purpose."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''
import sys
from pathlib import Path
from mmdyn.engine import InputError, check_output_folder
from mmdyn.engine.atomic_backend import write_atomically

small, read_only = map(Path, sys.argv[1:])
check_output_folder(str(small / 'work'))
write_atomically(bytes(500_000), small / 'epoch_1.pth')
for attempt in range(2):
    try:
        write_atomically(bytes(700_000), small / 'epoch_1.pth')
    except OSError as error:
        print(error.strerror, (small / 'epoch_1.pth').stat().st_size, sorted(path.name for path in small.iterdir()))
try:
    with open(small / 'filler', 'wb', buffering=0) as file:
        while file.write(bytes(4096)):
            pass
except OSError:
    pass
for folder in (small / 'work', read_only / 'work'):
    try:
        check_output_folder(str(folder))
    except InputError as error:
        print(error)
'''


@pytest.mark.e2e
def test_a_full_and_a_read_only_file_system(checkout: Path, tmp_path: Path) -> None:
    small, read_only = tmp_path / 'small', tmp_path / 'read_only'
    small.mkdir()
    read_only.mkdir()
    mount = f'mount -t tmpfs -o size=1m none {small} && mount -t tmpfs -o ro none {read_only}'
    if subprocess.run(['unshare', '--mount', 'sh', '-c', mount], capture_output=True).returncode:
        pytest.skip('needs the right to mount a tmpfs')
    process = subprocess.run(
        ['unshare', '--mount', 'sh', '-c', f'{mount} && exec "$@"', 'sh', sys.executable, '-c', SCRIPT, str(small),
         str(read_only)], env=os.environ | dict(PYTHONPATH=str(checkout)), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    full = "No space left on device 500000 ['epoch_1.pth', 'work']"
    assert process.stdout.splitlines() == [
        full, full,
        f'expected a folder that can be written to, but {small}/work cannot: No space left on device',
        f'expected a folder that can be written to, but {read_only}/work cannot: Read-only file system',
    ]
