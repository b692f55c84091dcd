"""Losses on what a backbone decided."""
from .compute_budget_loss import ComputeBudgetLoss
from .gate_class_loss import GateClassLoss
from .target_rate_loss import TargetRateLoss
from .taught_gate_loss import TaughtGateLoss

__all__ = ['ComputeBudgetLoss', 'GateClassLoss', 'TargetRateLoss', 'TaughtGateLoss']
