"""How training, logs and predictions get at the decisions."""
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .attach import attach
from .calibration_hook import CalibrationHook
from .dynamic_model_hook import DynamicModelHook
from .gate_schedule_hook import GateScheduleHook

__all__ = ['AtomicCheckpointHook', 'CalibrationHook', 'DynamicModelHook', 'GateScheduleHook', 'attach']
