"""What makes a training with MMEngine robust, dynamic or not: launching, checking, reading, saving and resuming."""
from mmdyn.stack import require_stack

# Before the imports below, which would fail with less helpful words.
require_stack()

from .atomic_checkpoint_hook import AtomicCheckpointHook  # noqa: E402
from .autocast_optim_wrapper import AutocastOptimWrapper  # noqa: E402
from .channels_last_hook import ChannelsLastHook  # noqa: E402
from .checkpoint_files import check_weights, guard_initial_weights, guard_load_from, require_fit  # noqa: E402
from .command_line import (build_runner, check_file, check_output_folder, common_parser, load_config,  # noqa: E402
                           read_config_file)
from .config_check import check_config  # noqa: E402
from .config_parts import class_names, listed, type_name, with_part  # noqa: E402
from .data_check import check_datasets  # noqa: E402
from .errors import InputError, blame, exit_on_bad_input  # noqa: E402
from .process_group import join_process_group, leave_process_group  # noqa: E402
from .rank_check import check_same_config, check_shares  # noqa: E402
from .resume import find_last_checkpoint  # noqa: E402
from .training import run_training  # noqa: E402

__all__ = [
    'AtomicCheckpointHook', 'AutocastOptimWrapper', 'ChannelsLastHook', 'InputError', 'blame', 'build_runner',
    'check_config', 'check_datasets', 'check_file', 'check_output_folder', 'check_same_config',
    'check_shares', 'check_weights', 'class_names', 'common_parser', 'exit_on_bad_input', 'find_last_checkpoint',
    'guard_initial_weights', 'guard_load_from', 'join_process_group', 'leave_process_group', 'listed', 'load_config',
    'read_config_file', 'require_fit', 'run_training', 'type_name', 'with_part'
]
