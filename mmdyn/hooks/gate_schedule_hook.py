"""Changes gates over training: noise, temperature, target rate."""
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..backbones.dynamic_backbone import DynamicBackbone
from ..layers.gate import check_number
from ..registry import HOOKS

ATTRIBUTES = ('noise', 'temperature', 'closing')


@HOOKS.register_module()
class GateScheduleHook(Hook):
    """Moves one attribute of all gates linearly from ``start`` to ``stop``.

    Annealing ``noise`` to 0 turns the sampled gates of training into the deterministic ones of
    evaluation. Moving ``closing`` from 0 to 1 moves the target rates from 1 to what the config has.
    The value depends on the iteration alone, so resuming needs no state.

    Args:
        attribute: ``'noise'``, ``'temperature'`` or ``'closing'``.
        start: Value until ``begin``.
        stop: Value from ``end`` on.
        begin: Share of the training, in [0, 1], at which the change begins.
        end: Share of the training at which it ends.
    """

    priority = 'NORMAL'

    def __init__(self,
                 *,
                 attribute: str = 'noise',
                 start: float = 1.0,
                 stop: float = 0.0,
                 begin: float = 0.0,
                 end: float = 1.0) -> None:
        if attribute not in ATTRIBUTES:
            raise ValueError(f'attribute must be one of {ATTRIBUTES}, got {attribute!r}')
        self.attribute = attribute
        low = 1e-6 if attribute == 'temperature' else 0.0
        self.start = check_number('start', start, low)
        self.stop = check_number('stop', stop, low)
        if attribute == 'closing' and max(self.start, self.stop) > 1:
            raise ValueError(f'closing lies in [0, 1], got start={start} and stop={stop}')
        self.begin = check_number('begin', begin, 0.0, 1.0)
        self.end = check_number('end', end, self.begin, 1.0)

    def value_at(self, progress: float) -> float:
        """The value at a share of the training in [0, 1]."""
        if progress >= self.end:
            return self.stop
        if progress <= self.begin:
            return self.start
        share = (progress - self.begin) / (self.end - self.begin)
        return self.start + share * (self.stop - self.start)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        value = self.value_at(runner.iter / runner.max_iters)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for module in model.modules():
            if isinstance(module, DynamicBackbone):
                if self.attribute == 'closing':
                    module.closing = value
                    continue
                for name, gate in module.gates().items():
                    if not hasattr(gate, self.attribute):
                        raise ValueError(f'GateScheduleHook: expected gates with the attribute {self.attribute!r}, '
                                         f'that of {name} is a {type(gate).__name__}, which has none')
                    setattr(gate, self.attribute, value)
