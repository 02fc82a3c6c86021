"""`dpax ipi`: energies, forces and virials for i-PI."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.sources import LammpsTypesOption
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError


def ipi(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Annotated[
        Path,
        typer.Argument(
            help="Structure with elements in i-PI's order and its periodicity, in any format of ASE."
        ),
    ],
    unix: Annotated[str | None, typer.Option(help="Name of i-PI's UNIX socket (its <address>).")] = None,
    host: Annotated[str | None, typer.Option(help="Host where i-PI listens.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.", min=1, max=65535)] = None,
    wait: Annotated[float, typer.Option(help="Time to wait for i-PI, seconds.", min=0.0)] = 30.0,
    type_map: LammpsTypesOption = None,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Be a client of i-PI: answer with energies, forces and virials until it ends."""
    if (unix is None) == (port is None) or (unix is not None and host is not None):
        raise InputError(
            "give i-PI's address: --unix NAME, or --port PORT and, on another machine, --host HOST"
        )
    potential = load_potential(model, devices, branch)
    from dpax.interfaces.ipi_client import Address, connect, serve
    from dpax.simulate.structure import check_elements, read_structure

    address = Address(unix=unix) if port is None else Address(host=host or "localhost", port=port)
    atoms = read_structure(structure, lammps_types=type_map or ())
    check_elements(atoms, potential.type_map, structure)
    client = connect(address, wait)
    typer.echo(f"connected to i-PI at {address}")
    count = 0
    for count in serve(client, potential, atoms):  # noqa: B007
        pass
    typer.echo(f"{count} structure{'s' * (count != 1)} evaluated; i-PI has ended")
