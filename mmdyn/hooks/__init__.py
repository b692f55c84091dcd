"""How training, logs and predictions get at the decisions."""
from .attach import attach
from .calibration_hook import CalibrationHook
from .dynamic_model_hook import DynamicModelHook
from .gate_schedule_hook import GateScheduleHook
from .inference_graph_hook import InferenceGraphHook

__all__ = [
    'CalibrationHook', 'DynamicModelHook', 'GateScheduleHook', 'InferenceGraphHook', 'attach'
]
