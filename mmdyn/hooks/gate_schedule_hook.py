"""Changes gates over training: noise, temperature, target rate."""
from typing import Any, Optional

from mmengine.hooks import Hook

from ..backbones.dynamic_backbone import DynamicBackbone
from ..engine.unwrapped import unwrapped
from ..registry import HOOKS
from .linear_schedule import LinearSchedule

ATTRIBUTES = ('noise', 'temperature', 'closing')


@HOOKS.register_module()
class GateScheduleHook(Hook):
    """Moves one attribute of all gates linearly from ``start`` to ``stop``.

    Annealing ``noise`` to 0 turns the sampled gates of training into the deterministic ones of
    evaluation. Moving ``closing`` from 0 to 1 moves the target rates from 1 to what the config has.
    The value depends on the iteration alone, so resuming needs no state.

    Args:
        attribute: ``'noise'``, ``'temperature'`` or ``'closing'``.
        start: Value until ``begin``, by default 1, of ``'closing'`` 0.
        stop: Value from ``end`` on, by default 0, of ``'closing'`` 1.
        begin: Share of the training, in [0, 1], at which the change begins.
        end: Share of the training at which it ends.
    """

    priority = 'NORMAL'

    def __init__(self,
                 *,
                 attribute: str = 'noise',
                 start: Optional[float] = None,
                 stop: Optional[float] = None,
                 begin: float = 0.0,
                 end: float = 1.0) -> None:
        if attribute not in ATTRIBUTES:
            raise ValueError(f'attribute must be one of {ATTRIBUTES}, got {attribute!r}')
        self.attribute = attribute
        start = float(attribute != 'closing') if start is None else start
        stop = float(attribute == 'closing') if stop is None else stop
        limits = {'temperature': dict(low=1e-6), 'closing': dict(high=1.0)}.get(attribute, {})
        self.value_at = LinearSchedule(start, stop, begin, end, **limits)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        value = self.value_at(runner.iter / runner.max_iters)
        model = unwrapped(runner.model)
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
