"""Options that take several values after one flag, as DeePMD-kit's do: `-m a.dpax b.dpax c.dpax`."""

from collections.abc import Iterator, Sequence
from typing import Any

from dpax.cli.command import Command


def many_values(*flags: str) -> type[Command]:
    """A class of commands in which every value that follows one of the flags belongs to it.

    The option itself is declared as a list, which click lets repeat: `-m a b` becomes `-m a -m b`. A value
    begins with a minus sign only if it is a number.
    """

    class WithManyValues(Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, list(_repeated(args, flags)))

    return WithManyValues


def _repeated(arguments: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """The arguments with the flag before each of its values."""
    flag, values = None, 0
    for argument in arguments:
        if argument in flags:
            flag, values = argument, 0
        elif argument.startswith("-") and not _is_number(argument):
            flag = None
        elif flag is not None:
            if values:
                yield flag
            values += 1
        yield argument


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
