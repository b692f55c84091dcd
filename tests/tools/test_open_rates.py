"""open_rates.py: what it reads from a log, and what it refuses."""
import json

import numpy as np
import pytest

from mmdyn.analysis.open_rates import Rates, draw, read_targets

TOOL = 'analysis_tools/open_rates.py'
ROWS = [{'loss': 1.0, 'epoch': 1, 'iter': 40, 'step': 40}, {'open_rate/a': 0.9, 'open_rate/b': 0.8, 'step': 50},
        {'loss': 1.0, 'epoch': 1, 'iter': 100, 'step': 100}, {'open_rate/a': 0.7, 'open_rate/b': 0.6, 'step': 100},
        {'compute/open_rate/a': 0.5, 'compute/open_rate/b': 0.25, 'step': 1}]


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, ROWS)) + '\n')
    (folder.parent / '20260101_000000.log').touch()
    return tmp_path


@pytest.mark.parametrize('name', ['', '20260101_000000/20260101_000000.log', '20260101_000000/vis_data/scalars.json'])
def test_picture(run_tool, run_folder, name):
    out = run_tool(TOOL, run_folder / name)
    assert '2 reports up to iteration 100; the last: a 0.70, b 0.60' in out
    assert (run_folder / '20260101_000000' / 'vis_data' / 'open_rates.png').read_bytes().startswith(b'\x89PNG')


def test_targets_are_those_of_the_config_that_the_run_has_written_down(tmp_path):
    assert read_targets(tmp_path / 'config.py') == {}
    (tmp_path / 'config.py').write_text("model = dict(type='FasterRCNN', backbone=dict(type='mmdyn.AIGResNet', depth=18, "
                                        "target_rates=[1, .8, .5, 1, 1, 1, 1, None]))")
    assert read_targets(tmp_path / 'config.py') == {'layer1.1': 0.8, 'layer2.0': 0.5}


def test_each_block_is_drawn_beside_its_target():
    training = Rates(['a', 'b'], np.array([50, 100]), np.array([[0.9, 0.8], [0.7, 0.6]]))
    for targets in ({'a': 0.75, 'b': 0.25}, {'b': 0.25}, {}):
        figure = draw(training, None, targets)
        top, bottom, beside, *_ = figure.axes
        assert [text.get_text() for text in beside.texts] == [f'{target:g}' for target in targets.values()]
        lines = [line.get_ydata()[0] for line in top.lines if line.get_label() == 'mean of the targets']
        assert lines == ([sum(targets.values()) / len(targets)] if targets else [])
        assert beside.get_ylim() == bottom.get_ylim()  # block by block


@pytest.mark.parametrize('text, message', [
    (None, 'expected a run with vis_data/scalars.json'),
    ('{"loss": 1, "step": 1}', 'no open rates of blocks: they are logged every 50'),
    ('loss: 1', 'expected lines of JSON'),
])
def test_bad_input(run_tool, tmp_path, text, message):
    if text is not None:
        (tmp_path / 'vis_data').mkdir()
        (tmp_path / 'vis_data' / 'scalars.json').write_text(text)
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, tmp_path)
