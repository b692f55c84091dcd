"""Where the results of an analysis go."""
from pathlib import Path

import pytest

from mmdyn.analysis.trained_model import default_folder


@pytest.mark.parametrize('checkpoint, folder', [
    ('work_dirs/my_run/epoch_3.pth', 'work_dirs/my_run'), ('epoch_3.pth', '.'), (None, 'work_dirs/net'),
    ('https://somewhere/epoch_3.pth', 'work_dirs/net')])
def test_beside_the_run_or_else_by_the_name_of_the_config(checkpoint, folder):
    assert default_folder('configs/net.py', checkpoint) == Path(folder)
