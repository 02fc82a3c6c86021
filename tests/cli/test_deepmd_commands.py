"""The command line of DeePMD-kit, command by command and option by option."""

import argparse
from pathlib import Path

import pytest
import typer.main

from cli.commands import error_of
from dpax.cli.app import app
from dpax.cli.deepmd_commands import REFUSED_COMMANDS

deepmd_main = pytest.importorskip("deepmd.main")

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-deepmd-kit.md"
OURS = typer.main.get_command(app).commands
EVERY = "every command"
OTHERWISE = {
    "--log-level": (EVERY,),
    "--log-path": (EVERY,),
    "--mpi-log": ("train", "compress"),
    "--force-load": ("train",),
    "--checkpoint-folder": ("freeze", "compress"),
    "--input": ("compress",),
    "--frequency": ("compress",),
    "--node-names": ("freeze",),
    "--nvnmd-weight": ("freeze",),
    "--head": ("freeze",),
    "--hessian": ("freeze",),
    "--lower-kind": ("freeze",),
    "--atomic-virial": ("convert-backend",),
}
"""Options of DeePMD-kit that dpax lacks, and where; docs/coming-from-deepmd-kit.md says why."""


def deepmd_commands() -> dict[str, argparse.ArgumentParser]:
    parser = deepmd_main.main_parser()
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices


def options_of(command: str) -> set[str]:
    return {flag for parameter in OURS[command].params for flag in parameter.opts} | {"-h", "--help"}


def test_every_command_exists_or_is_refused():
    commands = set(deepmd_commands())
    assert commands - set(OURS) == set(REFUSED_COMMANDS)
    page = PAGE.read_text(encoding="utf-8")
    for command in commands:
        assert f"`dp {command}`" in page, command


@pytest.mark.parametrize("command", sorted(set(deepmd_commands()) & set(OURS)))
def test_every_option_exists_or_is_explained(command):
    known, page = options_of(command), PAGE.read_text(encoding="utf-8")
    for action in deepmd_commands()[command]._actions:
        if not action.option_strings or known.intersection(action.option_strings):
            continue
        names = [flag for flag in action.option_strings if {command, EVERY} & set(OTHERWISE.get(flag, ()))]
        assert names, f"{command} {action.option_strings}"
        assert f"`{names[0]}`" in page


@pytest.mark.parametrize("command", sorted(set(deepmd_commands()) & set(OURS)))
def test_a_letter_never_means_another_option(command):
    """What both know by a letter, both know by the same long name."""
    letters = {}
    for parameter in OURS[command].params:
        letters |= {flag: set(parameter.opts) for flag in parameter.opts if len(flag) == 2}
    for action in deepmd_commands()[command]._actions:
        for letter in (flag for flag in action.option_strings if flag in letters):
            long = [flag for flag in action.option_strings if flag.startswith("--")]
            assert letters[letter].intersection(long), f"{command} {letter}"


def test_a_refused_command_says_what_to_do():
    assert error_of("embed", "-m", "model.dp").startswith("dpax has no command embed: ")
