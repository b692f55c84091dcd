"""Weights of other projects, and of classifiers, for the backbones here; and whether they fill them."""
