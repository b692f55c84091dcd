"""How training, logs and predictions get at the decisions."""
from ..engine import AtomicCheckpointHook, ChannelsLastHook  # where they were once imported from
from .attach import attach
from .calibration_hook import CalibrationHook
from .dynamic_model_hook import DynamicModelHook
from .gate_schedule_hook import GateScheduleHook
from .inference_graph_hook import InferenceGraphHook
from .paired_routes_hook import PairedRoutesHook

__all__ = [
    'AtomicCheckpointHook', 'CalibrationHook', 'ChannelsLastHook', 'DynamicModelHook', 'GateScheduleHook',
    'InferenceGraphHook', 'PairedRoutesHook', 'attach'
]
