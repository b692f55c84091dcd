"""Renames the weights of another project, leaving no key unaccounted for."""
import re
from collections.abc import Callable, Mapping
from typing import Union

from torch import Tensor

from .errors import CheckpointError
from .key_match import KeyMatch

# Counted by newer versions of PyTorch only, and used by no batch norm with a momentum.
BATCH_COUNTS = r'.*\.num_batches_tracked'

Rules = Mapping[str, Union[str, Callable[[re.Match], str]]]


def convert_keys(source: Mapping[str, Tensor], rules: Rules,
                 wanted: Mapping[str, Tensor], *, optional: str = BATCH_COUNTS
                 ) -> dict[str, Tensor]:
    """Renames weights so that they are exactly those that a model wants.

    Args:
        source: The other project's key -> tensor.
        rules: Pattern that matches a whole key -> its new name, as ``re.sub`` takes it: text with
            groups, or a function of the match. The first rule that matches counts.
        wanted: The model's state dict: keys, shapes and, for the optional ones, values.
        optional: Pattern of the wanted keys that keep their value where ``source`` has none.

    Returns:
        The keys of ``wanted``, in its order.

    Raises:
        CheckpointError: Naming the keys of ``source`` that no rule knows, that fall on one name, or
            that the model does not have; the keys that it lacks; and the shapes that differ.
    """
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in source.items():
        name = _rename(key, rules)
        if name in renamed:
            raise CheckpointError(f'the keys {origin[name]} and {key} would both become {name}')
        renamed[name], origin[name] = value, key
    defaults = {key: value for key, value in wanted.items()
                if key not in renamed and re.fullmatch(optional, key)}
    renamed.update(defaults)
    match = KeyMatch.of(wanted, renamed)
    if not match.is_complete:
        foreign = ''.join(f'\n- key {origin[name]} (as {name}) belongs to nothing in this model'
                          for name in match.left_over[:3])
        raise CheckpointError(f'the checkpoint does not fit: {match.summary()}\n{match.details()}{foreign}')
    return {key: renamed[key].to(value.dtype) for key, value in wanted.items()}


def _rename(key: str, rules: Rules) -> str:
    for pattern, name in rules.items():
        if re.fullmatch(pattern, key):
            return re.sub(pattern, name, key)
    raise CheckpointError(f'unknown key {key}; expected only keys like {", ".join(rules)}')
