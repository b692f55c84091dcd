"""The error of the tools."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message says what was expected, what came and what to change."""
