"""Dynamic backbones for other runtimes than PyTorch."""
