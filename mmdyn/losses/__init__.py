"""Losses on what a backbone decided."""
from .target_rate_loss import TargetRateLoss

__all__ = ['TargetRateLoss']
