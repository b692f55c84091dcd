"""Modules that decide, and that run what was decided.

``residual`` is not imported here: it alone needs MMDetection.
"""
from .conditional import run_on_open
from .decisions import Decisions
from .gate import Gate

__all__ = ['Decisions', 'Gate', 'run_on_open']
