"""The errors that a user is meant to read."""


class InputError(ValueError):
    """A mistake in what the user gave: settings, data, a model file, a structure.

    The message is one sentence or two that name the file, key or frame, say what was got and what
    was expected, and what to do. The command line prints it as one line and exits with code 2.
    """


def brief(error: Exception) -> str:
    """What an exception says, in one line that may stand in a message; its name if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else f"{text[:497]}..."


WRONG_CONTENTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code runs into where a file's contents are not what they should be. Failures of the machine, such as a
device that JAX cannot start, are not among them."""
