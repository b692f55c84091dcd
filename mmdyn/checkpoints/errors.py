"""The error of this package."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file or the key, and why."""
