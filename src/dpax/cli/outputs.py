"""Where a command may write."""

from pathlib import Path

from dpax.errors import InputError


def refuse_inputs(output: Path, *inputs: Path | str) -> None:
    """See that a file to be written is none of those that the command reads.

    Raises:
        InputError: it is one, under whatever name.
    """
    for path in map(Path, inputs):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is read by this command; give another name for what it writes")
