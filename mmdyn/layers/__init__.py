"""Modules that decide, and that run what was decided."""
