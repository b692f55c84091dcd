"""Pictures of what a dynamic backbone did with an image."""
from .drawing import draw_inference_graph
from .inference_graph import Block, InferenceGraph, Stage, read_graph
from .prediction import Prediction, read_prediction

__all__ = [
    'Block', 'InferenceGraph', 'Prediction', 'Stage', 'draw_inference_graph', 'read_graph',
    'read_prediction'
]
