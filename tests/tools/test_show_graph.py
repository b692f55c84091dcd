"""show_graph.py: one PNG an image, for a detector and what it refuses."""
import mmcv
import numpy as np
import pytest

TOOL = 'analysis_tools/show_graph.py'
pytestmark = pytest.mark.e2e


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'a.png'
    mmcv.imwrite(np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8), str(path))
    return path


@pytest.mark.parametrize('name, blocks', [('aig', 8), ('dg', 8)])
def test_a_detector(run_tool, configs, checkpoints, image, tmp_path, name, blocks):
    out = run_tool(TOOL, configs[name], checkpoints[name], image, '--out-dir', tmp_path / 'out', '--device', 'cpu')
    assert f' of {blocks} blocks ran, ' in out
    assert mmcv.imread(str(tmp_path / 'out' / 'a.png')).shape[2] == 3


def test_refusals(run_tool, configs, checkpoints, image, tmp_path):
    with pytest.raises(SystemExit, match='expected an image, found nothing at nowhere.jpg'):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], 'nowhere.jpg')
    (tmp_path / 'text.jpg').write_text('no image')
    with pytest.raises(SystemExit, match='text.jpg cannot be read as one'):
        run_tool(TOOL, configs['aig'], checkpoints['aig'], tmp_path / 'text.jpg')
    with pytest.raises(SystemExit, match='is not of the model that the config describes'):
        run_tool(TOOL, configs['aig'], checkpoints['dg'], image)
