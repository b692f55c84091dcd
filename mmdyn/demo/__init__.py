"""A set of drawn pictures, and a small detector that is trained on them."""
