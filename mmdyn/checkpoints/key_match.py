"""What a model expects, held against what a checkpoint gives."""
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_EXAMPLES = 5


@dataclass(frozen=True)
class KeyMatch:
    """Which keys of a model a state dict fills.

    Attributes:
        matched: In both, with one shape.
        missing: Of the model alone.
        left_over: Of the state dict alone.
        mis_shaped: In both, with different shapes: one sentence each.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    mis_shaped: tuple[str, ...]

    @classmethod
    def of(cls, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> 'KeyMatch':
        """Compares keys and shapes of what is wanted and what is given."""
        shared = [key for key in wanted if key in given]
        return cls(
            matched=tuple(key for key in shared if wanted[key].shape == given[key].shape),
            missing=tuple(key for key in wanted if key not in given),
            left_over=tuple(key for key in given if key not in wanted),
            mis_shaped=tuple(
                f'{key}: expected {tuple(wanted[key].shape)}, got {tuple(given[key].shape)}'
                for key in shared if wanted[key].shape != given[key].shape))

    @property
    def is_complete(self) -> bool:
        """Whether every key of each has its counterpart."""
        return not (self.missing or self.left_over or self.mis_shaped)

    def summary(self) -> str:
        """The four counts, in one line."""
        return (f'{len(self.matched)} weights matched, {len(self.mis_shaped)} of another shape, '
                f'{len(self.missing)} missing, {len(self.left_over)} not in this model')

    def details(self) -> str:
        """The first few keys of each kind that does not match, a line a kind."""
        kinds = {'of another shape': self.mis_shaped, 'missing': self.missing,
                 'not in this model': self.left_over}
        return '\n'.join(
            f'- {kind}: {"; ".join(keys[:_EXAMPLES])}'
            + (f' and {len(keys) - _EXAMPLES} more' if len(keys) > _EXAMPLES else '')
            for kind, keys in kinds.items() if keys)
