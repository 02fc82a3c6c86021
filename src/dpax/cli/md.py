"""`dpax md`: molecular dynamics with a model."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import LammpsTypesOption
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError
from dpax.simulate.settings import CellMotion, Ensemble, MDSettings, Thermostat

Structure = Annotated[Path, typer.Argument(help="File with the structure, in any format that ASE reads.")]
"""The argument of every command that starts from a structure."""
Index = Annotated[int, typer.Option(help="Which structure of the file; -1 is the last.")]
"""The option `--index` of these commands."""


def md(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Structure,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Trajectory, .xyz or .traj; log and checkpoint lie beside it.",
        ),
    ],
    steps: Annotated[
        int, typer.Option("--steps", "-n", help="Total number of steps, those before a restart included.")
    ],
    temperature: Annotated[
        str | None, typer.Option("--temperature", "-t", help="K; 300:600 for a ramp over all steps.")
    ] = None,
    ensemble: Annotated[
        Ensemble, typer.Option("--ensemble", "-e", help="Constant energy, temperature, or pressure.")
    ] = MDSettings.ensemble,
    time_step: Annotated[float, typer.Option(help="fs.")] = MDSettings.time_step,
    thermostat: Annotated[
        Thermostat, typer.Option(help="Of nvt; npt has Nosé–Hoover chains.")
    ] = MDSettings.thermostat,
    thermostat_time: Annotated[
        float, typer.Option(help="fs: inverse friction of Langevin, period of Nosé–Hoover chains.")
    ] = MDSettings.thermostat_time,
    pressure: Annotated[float, typer.Option("--pressure", "-p", help="bar, of npt.")] = MDSettings.pressure,
    barostat_time: Annotated[float, typer.Option(help="fs, of npt.")] = MDSettings.barostat_time,
    cell_motion: Annotated[
        CellMotion,
        typer.Option(help="Degrees of freedom of the cell in npt: the volume, or all lengths and angles."),
    ] = MDSettings.cell_motion,
    seed: Annotated[int, typer.Option(help="Seed of velocities and random forces.", min=0)] = MDSettings.seed,
    keep_velocities: Annotated[
        bool, typer.Option("--keep-velocities", help="Start with the velocities in the structure.")
    ] = MDSettings.keep_velocities,
    every: Annotated[int, typer.Option(help="Steps between frames of the trajectory.")] = MDSettings.every,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.")] = MDSettings.log_every,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.")
    ] = MDSettings.checkpoint_every,
    max_temperature: Annotated[
        float | None,
        typer.Option(help="Stop above it, K; default: 10 × the temperature asked for, at least 5000."),
    ] = MDSettings.max_temperature,
    min_distance: Annotated[
        float | None,
        typer.Option(
            help="Stop when atoms are closer, Å; default: 0.8 × the smallest distance trained on, or 0.5."
        ),
    ] = MDSettings.min_distance,
    index: Index = -1,
    supercell: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the structure along its lattice vectors.")
    ] = (1, 1, 1),
    type_map: LammpsTypesOption = None,
    restart: Annotated[bool, typer.Option("--restart", help="Continue from the checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Simulate with a model; Ctrl-C stops after a checkpoint, and --restart continues from it.

    The exit code after Ctrl-C is 130, after SIGTERM 143, after SIGHUP 129, as shells have it.
    """
    settings = MDSettings(
        steps=steps,
        temperature=None if temperature is None else _range(temperature),
        ensemble=ensemble,
        thermostat=thermostat,
        time_step=time_step,
        thermostat_time=thermostat_time,
        pressure=pressure,
        barostat_time=barostat_time,
        cell_motion=cell_motion,
        seed=seed,
        keep_velocities=keep_velocities,
        every=every,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        max_temperature=max_temperature,
        min_distance=min_distance,
    )
    from dpax.cli.md_progress import MDReporter
    from dpax.simulate.structure import check_elements, read_structure

    atoms = read_structure(structure, index, supercell, type_map or ())
    potential = load_potential(model, devices, branch)
    check_elements(atoms, potential.type_map, structure)
    from dpax.simulate.files import MDFiles
    from dpax.simulate.md import molecular_dynamics

    for path in MDFiles(output).paths:
        refuse_inputs(path, model, structure)

    result = molecular_dynamics(
        potential, atoms, settings, output, restart=restart, overwrite=overwrite, reporter=MDReporter()
    )
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)


def _range(text: str) -> tuple[float, float]:
    """The numbers of `300` or `300:600`."""
    try:
        first, *others = (float(part) for part in text.split(":"))
        (last,) = others or [first]
    except ValueError:
        raise InputError(f"--temperature: expected K as in 300, or 300:600 for a ramp; got {text}") from None
    return first, last
