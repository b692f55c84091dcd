"""What all tests share."""
import os
import random
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.visualization import Visualizer

MARKERS = (
    'slow: takes more than about ten seconds',
    'e2e: trains, evaluates or starts processes of its own',
    'gpu: what only a GPU can show',
)
# Where the tests of these folders make their tensors and modules: MMDYN_TEST_DEVICE, or a GPU where there is one.
DEVICE = os.environ.get('MMDYN_TEST_DEVICE') or ('cuda' if torch.cuda.is_available() else 'cpu')
ON_DEVICE = ('functional', 'layers', 'backbones', 'losses')


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line('markers', marker)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, alone or after others."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit tests run on the device that is asked for."""
    if DEVICE == 'cpu' or request.path.parent.name not in ON_DEVICE:
        yield
    else:
        with torch.device(DEVICE):
            yield


@pytest.fixture(autouse=True)
def own_visualizer() -> Iterator[None]:
    """mmengine keeps visualizers for the life of the process; a detector would draw with that of an earlier test."""
    yield
    Visualizer._instance_dict.clear()


@pytest.fixture(scope='session')
def checkout() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def run_tool(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs a script of tools/ as the command line does; returns what it printed."""

    def run(tool: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, 'argv', [Path(tool).name, *map(str, arguments)])
        runpy.run_path(str(checkout / 'tools' / tool), run_name='__main__')
        return capsys.readouterr().out

    return run


@pytest.fixture(scope='session')
def data_root(checkout: Path) -> Path:
    """The real images and weights: MMDYN_DATA, or shared/data beside the checkout."""
    named = os.environ.get('MMDYN_DATA')
    folder = Path(named) if named else checkout.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'needs the shared test data: neither MMDYN_DATA nor {folder} is a folder')
    return folder


@pytest.fixture(scope='session')
def tiny_coco(data_root: Path) -> Path:
    """100 COCO images in COCO 2017's layout."""
    folder = data_root / 'tiny_coco'
    if not folder.is_dir():
        pytest.skip(f'needs COCO images: expected the folder {folder}')
    return folder
