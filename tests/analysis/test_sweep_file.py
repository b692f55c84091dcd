"""What a sweep has found is kept, and not found again."""
import json

import pytest

from mmdyn.analysis.sweep_file import SweepFile
from mmdyn.engine import InputError

HEADER = dict(knob='open_probability', seed=0)


def test_rows_are_kept_in_a_file_and_not_made_again(tmp_path):
    made = []

    def make():
        made.append(len(made))
        return dict(share=0.1 + 0.2)

    path = tmp_path / 'new' / 'sweep.json'
    for _ in range(2):
        file = SweepFile(path, HEADER)
        for closed in ([], ['layer1.0']):
            assert file.once('choices', dict(closed=closed), make) == dict(closed=closed, share=0.1 + 0.2)
        file.once('points', dict(closed=[]), make)  # of another list
    assert made == [0, 1, 2]
    content = json.loads(path.read_text())
    assert content['seed'] == 0 and [row['closed'] for row in content['choices']] == [[], ['layer1.0']]
    assert [file.name for file in path.parent.iterdir()] == ['sweep.json']


def test_what_was_not_made_is_not_kept(tmp_path):
    def fail():
        raise KeyboardInterrupt

    file = SweepFile(tmp_path / 'sweep.json', HEADER)
    with pytest.raises(KeyboardInterrupt):
        file.once('points', dict(value=0.5), fail)
    assert file.once('points', dict(value=0.5), lambda: dict(ratio=1)) == dict(value=0.5, ratio=1)


def test_rows_of_something_else(tmp_path):
    SweepFile(tmp_path / 'sweep.json', HEADER).once('points', {}, dict)
    with pytest.raises(InputError, match='points of something else.*name another folder with --out'):
        SweepFile(tmp_path / 'sweep.json', dict(HEADER, seed=1))
