"""What a user can mend is one line, what is a fault of the code keeps its traceback."""
import sys

import pytest
import torch

from mmdyn.checkpoints import CheckpointError
from mmdyn.engine import InputError, blame, exit_on_bad_input
from mmdyn.engine.errors import is_raised_here
from mmdyn.layers.gate import Gate


def foreign_error():
    torch.nn.Conv2d(3, 3, 1, groups=2)


def without_words():
    raise AssertionError  # pytest would give words to an assertion that fails


def test_what_foreign_code_says_of_bad_input_is_said_with_its_place():
    with pytest.raises(InputError, match=r'^the config cannot be built: ValueError: in_channels must be divisible by '
                                         r'groups \(.*conv.py:\d+; MMDYN_TRACEBACK=1 shows the whole traceback\)$'):
        with blame('the config cannot be built'):
            foreign_error()
    with pytest.raises(InputError, match=r'AssertionError: raise AssertionError .*test_errors.py:\d+; MMDYN'):
        with blame('the config cannot be built'):
            without_words()


def test_what_is_said_here_needs_no_further_words():
    with pytest.raises(InputError, match='^gate hidden_channels must be an int in'):
        with blame('the config cannot be built'):
            Gate(4, hidden_channels=10**12)


@pytest.fixture
def stop(monkeypatch):
    """Ends a program `tool.py` by an error; what its user sees."""
    monkeypatch.setattr(sys, 'argv', ['/somewhere/tool.py'])

    def stop(error: BaseException):
        with pytest.raises(SystemExit) as caught:
            with exit_on_bad_input():
                raise error
        return caught.value.code

    return stop


@pytest.mark.parametrize('kind', [InputError, CheckpointError])
def test_a_program_ends_with_the_message(stop, kind):
    assert stop(kind('expected a file')) == 'tool.py: expected a file'


def test_ctrl_c(stop, capsys):
    assert stop(KeyboardInterrupt()) == 130
    assert stop(KeyboardInterrupt('stopped in iteration 3')) == 130
    assert capsys.readouterr().err == 'tool.py: stopped by Ctrl-C\ntool.py: stopped in iteration 3\n'


def test_an_option_that_a_layer_refuses_ends_the_program_too(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tool.py'])
    with pytest.raises(SystemExit, match=r'^tool.py: gate hidden_channels must be an int in \[1, 65536\], got 0$'):
        with exit_on_bad_input():
            Gate(4, hidden_channels=0)


def test_faults_of_the_code_and_of_foreign_code_keep_their_traceback(monkeypatch):
    with pytest.raises(ValueError, match='divisible'):
        with exit_on_bad_input():
            foreign_error()
    with pytest.raises(AttributeError) as caught:  # in this package, and not raised on purpose
        with exit_on_bad_input():
            Gate(4).forward(None)
    assert not is_raised_here(caught.value)


def test_the_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv('MMDYN_TRACEBACK', '1')
    with pytest.raises(InputError, match='expected a file'):
        with exit_on_bad_input():
            raise InputError('expected a file')
