"""What validation reports about compute."""
from .compute_metric import ComputeMetric

__all__ = ['ComputeMetric']
