"""DeePMD-kit's commands that dpax does not have, with what to do instead."""

import sys
from typing import Any

from typer.core import TyperGroup

from dpax.cli.failures import UNREAD
from dpax.errors import InputError

REFUSED_COMMANDS = {
    "embed": "dpax writes descriptors (`dpax eval-desc`); the features inside the fitting net it does not",
    "doc-train-input": "every key of an input file is described in docs/settings.md, and `dpax validate` "
    "checks a file",
    "gui": "dpax has no graphical interface for input files; `dpax validate` checks one",
    "pretrained": "download the model as its authors say, and start from it by `dpax train --finetune`",
    "transfer": "it is for DeePMD-kit's TensorFlow graphs; to start from another model's weights there is "
    "`dpax train --init-model`",
    "convert-from": "it is for DeePMD-kit's TensorFlow graphs; `dpax convert` reads the other model files of "
    "all versions that DeePMD-kit reads",
    "train-nvnmd": "NVNMD hardware is outside dpax",
}
"""Commands of `dp`, and what to do instead."""


class Commands(TyperGroup):
    """The commands of dpax; for the missing ones of `dp` a message says why."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name."""
        if cmd_name in REFUSED_COMMANDS:
            raise InputError(f"dpax has no command {cmd_name}: {REFUSED_COMMANDS[cmd_name]}")
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a closed standard output, which typer would call a failure, ends it quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise SystemExit(UNREAD) from None
        return result
