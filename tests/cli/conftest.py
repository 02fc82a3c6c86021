"""The command line inside the process of a test: as a user types it, without the start of an interpreter."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from dpax.cli import start
from dpax.cli.app import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a mistake prints."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert lines, self
        assert lines[-1].startswith("dpax: error: "), self
        assert all(line.startswith("dpax: warning: ") for line in lines[:-1]), self
        return lines[-1].removeprefix("dpax: error: ")


@pytest.fixture
def dpax_inside(monkeypatch, capsys) -> Callable[..., Done]:
    """Runs a command line; JAX has started already and is left as it is."""
    monkeypatch.setattr(start, "configure", lambda devices: None)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["dpax", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run
