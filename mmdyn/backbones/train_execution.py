"""Training that skips: its options, and where it is refused."""
from typing import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers.forward_pass import ForwardPass
from ..layers.gate import check_number
from .dynamic_backbone import EXECUTIONS, DynamicBackbone


class TrainExecution(DynamicBackbone):
    """Mixin for a backbone whose blocks have gates.

    Attributes:
        exploration: While training, a closed image runs with this probability, in (0, 1].
    """

    exploration: float

    def blocks_left_out(self) -> Mapping[str, nn.Module]:
        """Name -> block, of those that may be left out while training.

        Raises:
            ValueError: If there is none, and never will be one.
        """
        raise NotImplementedError

    def _set_up_train_execution(self, execution: str, exploration: float) -> None:
        self.train_execution = execution
        self.exploration = check_number('exploration', exploration, 0.0, 1.0)
        if not self.exploration:
            raise ValueError('exploration must lie in (0, 1], got 0: the gates would never learn what opening is worth')

    @property
    def train_execution(self) -> str:
        """While training, ``'skip'`` what is closed, or run all and ``'mask'`` it."""
        return self._train_execution

    @train_execution.setter
    def train_execution(self, execution: str) -> None:
        if execution not in EXECUTIONS:
            raise ValueError(f'train_execution must be one of {EXECUTIONS}, got {execution!r}')
        if execution == 'skip':
            self.blocks_left_out()
        self._train_execution = execution

    def begin_forward(self, images: Tensor) -> ForwardPass:
        forward_pass = super().begin_forward(images)
        if self.training and self.train_execution == 'skip':
            forward_pass.exploration = self.exploration
        return forward_pass

    def train(self, mode: bool = True) -> 'TrainExecution':
        """As the parent; refuses to skip where that would change the norms' statistics.

        Raises:
            ValueError: If closed blocks are to be skipped while training and the norms in them train.
        """
        super().train(mode)
        if mode and self.train_execution == 'skip':
            for name, block in self.blocks_left_out().items():
                _refuse_training_norms(name, block)
        return self


def _refuse_training_norms(name: str, block: nn.Module) -> None:
    for key, module in block.named_modules():
        if isinstance(module, _BatchNorm) and module.training and not key.startswith(('gate', 'router')):
            raise ValueError("train_execution='skip' runs a block on some of the images, and the statistics of a norm "
                             f'that trains would be theirs alone: expected frozen norms (norm_eval=True), got {key} of '
                             f"{name} in training; or train_execution='mask'")
