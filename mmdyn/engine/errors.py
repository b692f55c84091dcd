"""Which errors are the user's to mend, and what is said of them: a line, without a traceback."""
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoints import CheckpointError

PACKAGE = str(Path(__file__).resolve().parents[1])
# Set, errors are not caught: the whole traceback is shown.
TRACEBACK_VARIABLE = 'MMDYN_TRACEBACK'


class InputError(ValueError):
    """Something that the user gave cannot be used; the message says what was expected, what came and what to change."""


def _last_frame(error: BaseException) -> traceback.FrameSummary:
    return traceback.extract_tb(error.__traceback__)[-1]


def message_of(error: BaseException) -> str:
    """The text of an error; of one that has none, as some assertions, the line of code that raised it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or _last_frame(error).line or type(error).__name__


def is_raised_here(error: BaseException) -> bool:
    """Whether a `raise` in this package made the error: its message then says what to mend."""
    frame = _last_frame(error)
    return frame.filename.startswith(PACKAGE) and (frame.line or '').startswith('raise')


@contextmanager
def blame(what: str) -> Iterator[None]:
    """Says of whatever goes wrong inside that the input is the reason.

    Args:
        what: Cannot be done with it, such as 'the config cannot be read'.

    Raises:
        InputError: Instead of any other error.
    """
    try:
        yield
    except (InputError, CheckpointError):
        raise
    except Exception as error:  # what foreign code makes of bad input may be anything
        if is_raised_here(error):
            raise InputError(message_of(error)) from error
        frame = _last_frame(error)
        raise InputError(f'{what}: {type(error).__name__}: {message_of(error)} ({frame.filename}:{frame.lineno}; '
                         f'{TRACEBACK_VARIABLE}=1 shows the whole traceback)') from error


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Ends the program with the message alone, without a traceback, where what came in is wrong and not the code."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        name = Path(sys.argv[0]).name
        if isinstance(error, KeyboardInterrupt):
            print(f'{name}: {str(error) or "stopped by Ctrl-C"}', file=sys.stderr)
            raise SystemExit(130) from None  # what shells expect of a program that an interrupt ends
        if isinstance(error, (InputError, CheckpointError)) or is_raised_here(error):
            raise SystemExit(f'{name}: {message_of(error)}') from None
        raise
