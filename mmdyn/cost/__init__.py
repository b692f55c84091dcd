"""Multiply-adds: of every part of a dynamic backbone, and of every image given its decisions."""
from .account import CostAccount, ImageCost, Part, blocks_run, own_sizes

__all__ = ['CostAccount', 'ImageCost', 'Part', 'blocks_run', 'own_sizes']
