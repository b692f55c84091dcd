"""ruff and mypy have nothing to say; their options are in ruff.toml and mypy.ini."""
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('command', ['ruff check --no-cache', 'mypy'])
def test_nothing_to_complain_about(command: str, checkout: Path) -> None:
    tool, *arguments = command.split()
    pytest.importorskip(tool)
    process = subprocess.run([sys.executable, '-m', tool, *arguments], cwd=checkout, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
