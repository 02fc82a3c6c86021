"""The command line as a user types it, in the process of the tests: no interpreter and no JAX starts anew."""

import io
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

import pytest

from dpax.cli import start
from dpax.cli.app import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def mistake(self) -> str:
        """The one line that a mistake prints."""
        lines = self.stderr.splitlines()
        assert self.code == 2, self
        assert lines, self
        assert lines[-1].startswith("dpax: error: "), self
        assert all(line.startswith("dpax: warning: ") for line in lines[:-1]), self
        return lines[-1].removeprefix("dpax: error: ")


def run(*arguments: object) -> Done:
    """A command, however it ends. JAX is left as it is."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.object(start, "configure", lambda devices: None),
        patch.object(sys, "argv", ["dpax", *map(str, arguments)]),
        warnings.catch_warnings(),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        _filter_warnings_as_python_does()
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code or 0
    assert isinstance(code, int), code
    return Done(code, stdout.getvalue(), stderr.getvalue())


def _filter_warnings_as_python_does() -> None:
    """pytest shows all of them."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)


def dpax(*arguments: object, code: int = 0) -> Done:
    """A command that ends with an exit code."""
    done = run(*arguments)
    assert done.code == code, done.stdout + done.stderr
    return done


def error_of(*arguments: object) -> str:
    """The one line that a mistake prints."""
    return run(*arguments).mistake
