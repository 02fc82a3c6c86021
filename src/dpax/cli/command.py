"""What every command sees to before it runs."""

import math
from typing import Any

from typer.core import TyperCommand

from dpax.errors import InputError


class Command(TyperCommand):
    """A command that takes no empty argument, and finite numbers only: NaN would pass every check."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn the arguments into values.

        Raises:
            InputError: NaN or an infinite number, or an empty argument.
        """
        if "" in args or any(argument.startswith("--") and argument.endswith("=") for argument in args):
            raise InputError("an argument is empty; is a variable of the shell not set?")
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            for value in _numbers(ctx.params.get(str(parameter.name))):
                if not math.isfinite(value):
                    raise InputError(
                        f"{max(parameter.opts, key=len)}: should be a finite number, got {value}"
                    )
        return rest


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [number for number in values if isinstance(number, float)]
