"""What tools/train.py and tools/test.py share: from the command line to a Runner that can start."""
from mmdyn.stack import require_stack

# Before the imports below, which would fail with less helpful words.
require_stack()

from .checkpoint_files import guard_initial_weights, guard_load_from, require_fit  # noqa: E402
from .command_line import build_runner, check_file, common_parser, exit_on_bad_input, load_config  # noqa: E402
from .cpu_processes import join_process_group  # noqa: E402
from .data_check import check_datasets  # noqa: E402
from .errors import InputError  # noqa: E402
from .initial_weights import check_initial_backbone  # noqa: E402

__all__ = [
    'InputError', 'build_runner', 'check_datasets', 'check_file', 'check_initial_backbone', 'common_parser',
    'exit_on_bad_input', 'guard_initial_weights', 'guard_load_from', 'join_process_group', 'load_config', 'require_fit'
]
