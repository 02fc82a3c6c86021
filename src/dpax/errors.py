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
    """A mistake in what the user gave: settings, data, a model file, a structure.

    The message is one sentence or two that name the file, key or frame, say what was got and what
    was expected, and what to do. The command line prints it as one line and exits with code 2.
    """


class MachineError(InputError):
    """A failure of the machine that the user can mend: a full disk, a read-only folder, too little memory.

    The message names the file and says what to do, as for every `InputError`.
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
"""What code runs into where a file's contents are not what they should be. Failures of the machine, such as a
device that JAX cannot start, are not among them."""
