"""`dpax neighbor-stat`: the smallest distance and the largest numbers of neighbours in data."""

from typing import Annotated

import typer

from dpax.cli.failures import say
from dpax.cli.sources import SystemOption, TypeMapOption, reading


def neighbor_stat(
    rcut: Annotated[float, typer.Option("--rcut", "-r", min=0.0, max=100.0, help="Cutoff radius, Å.")],
    system: SystemOption = None,
    type_map: TypeMapOption = None,
    mixed_type: Annotated[
        bool, typer.Option("--mixed-type", "--one-type", help="Count neighbours of all types together.")
    ] = False,
) -> None:
    """Print the smallest distance (Å) in data, and the most neighbours of each type within the cutoff."""
    import numpy as np

    from dpax.data import NeighborStatistics, open_systems, type_names

    paths = system or ["."]
    names = type_map or type_names(paths)
    if not type_map:
        typer.echo(f"type_map: {' '.join(names)}")
    statistics = NeighborStatistics(len(names), rcut)
    for data in open_systems(paths, names, reading=reading(keep_unconverged=True, lammps_types=type_map)):
        if not statistics.add_system(data):
            say("warning", f"{data.name}: no atom has a neighbour within {rcut:g} Å")
    most = np.array([statistics.max_neighbors]) if mixed_type else statistics.max_by_type
    typer.echo(f"min_nbor_dist: {statistics.min_distance:f}")
    typer.echo(f"max_nbor_size: {most}")
