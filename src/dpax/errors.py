"""The errors that a user is meant to read."""


def brief(error: BaseException) -> str:
    """The first line of what a library says, or the kind of its error, for a sentence of dpax's own."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:197]}..."


def shortened(value: object) -> str:
    """A value as it may stand in a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, thousands of levels
        return f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."


class InputError(ValueError):
    """A mistake in the user's settings, data, model file or structure.

    The message is one or two sentences that name the file, key or frame, state what was found and what
    was expected, and what to do. The command line prints it as one line and exits with code 2.
    """


class MachineError(InputError):
    """A failure of the machine that the user can fix: a full disk, a read-only folder, too little memory.

    The message names the file and what to do, like that of every `InputError`.
    """


WRONG_CONTENTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code raises if the contents of a file are wrong. Failures of the machine, such as a
device that JAX cannot start, are not among them."""
