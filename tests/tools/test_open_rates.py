"""open_rates.py: what it reads from a log, and what it refuses."""
import json

import pytest

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
