"""Losses on what a backbone decided."""
from .compute_budget_loss import ComputeBudgetLoss
from .target_rate_loss import TargetRateLoss

__all__ = ['ComputeBudgetLoss', 'TargetRateLoss']
