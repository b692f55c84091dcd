"""Checkpoints as data: reading them without running anything, and fitting them to a model."""
from .errors import CheckpointError
from .key_map import Rules, convert_keys
from .key_match import KeyMatch
from .reading import METADATA_ENTRY, LogHistory, read_checkpoint, read_state_dict, state_dict_of

__all__ = [
    'METADATA_ENTRY', 'CheckpointError', 'KeyMatch', 'LogHistory', 'Rules', 'convert_keys',
    'read_checkpoint', 'read_state_dict', 'state_dict_of'
]
