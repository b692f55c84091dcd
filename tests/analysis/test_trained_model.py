"""Where the results of an analysis go, and which images it takes."""
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from mmdyn.analysis.trained_model import default_folder, evenly


@pytest.mark.parametrize('checkpoint, folder', [
    ('work_dirs/my_run/epoch_3.pth', 'work_dirs/my_run'), ('epoch_3.pth', '.'), (None, 'work_dirs/net'),
    ('https://somewhere/epoch_3.pth', 'work_dirs/net')])
def test_beside_the_run_or_else_by_the_name_of_the_config(checkpoint, folder):
    assert default_folder('configs/net.py', checkpoint) == Path(folder)


@pytest.mark.parametrize('count, chosen', [(3, [[0, 3], [6]]), (20, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]])])
def test_images_are_taken_at_even_distances(count, chosen):
    loader = DataLoader(range(10), batch_size=2, collate_fn=list)
    assert list(evenly(loader, count)) == chosen
