"""`dpax eval-desc`: the descriptors of all atoms, as NumPy files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dpax.cli.sources import ListOption, SystemOption, listed_systems, only_one, reading
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError
from dpax.files import replacing, writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from dpax.data import System
    from dpax.infer import Potential


def eval_desc(
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file.")],
    system: SystemOption = None,
    datafile: ListOption = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for a file SYSTEM.npy of each system.")
    ] = Path("desc"),
    dtype: Annotated[
        Literal["fp32", "fp64", "native"],
        typer.Option(help="Precision of the files; native: the descriptor's own."),
    ] = "native",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Write the descriptors of the atoms of systems, frames × atoms × width in a file for each system.

    Frames with fewer atoms than the largest of their system are filled up with NaN.
    """
    import numpy as np

    from dpax.data import open_systems

    only_one(system=system, datafile=datafile)
    potential = load_potential(model, devices, branch)
    paths = listed_systems(datafile) if datafile is not None else system or ["."]
    systems = open_systems(paths, potential.type_map, reading=reading(keep_unconverged=True))
    files = _file_names(systems, output)
    existing = [str(path) for path in files if path.exists()]
    if existing and not overwrite:
        raise InputError(f"{existing[0]} exists already; give another folder, or --overwrite to replace it")
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    for opened, path in zip(systems, files, strict=True):
        array = described(potential, opened)
        if dtype != "native":
            array = array.astype(np.float32 if dtype == "fp32" else np.float64)
        with replacing(path) as temporary:
            np.save(temporary, array)
        typer.echo(f"{path}: {' × '.join(map(str, array.shape))}")


def _file_names(systems: "Sequence[System]", folder: Path) -> list[Path]:
    """A file for each system, called as the system's folder or file."""
    files: dict[Path, str] = {}
    for system in systems:
        path = folder / f"{system.path.stem if system.path.is_file() else system.path.resolve().name}.npy"
        if path in files:
            raise InputError(
                f"the descriptors of {system.name} and of {files[path]} would both be written to {path}; "
                "give one system at a time, each with an --output of its own"
            )
        files[path] = system.name
    return list(files)


def described(potential: "Potential", system: "System") -> "np.ndarray":
    """The descriptors of a system, [frames, atoms, width]."""
    import numpy as np

    from dpax.infer import frame_groups

    frames = [a for group in frame_groups(system, range(len(system))) for a in potential.descriptors(group)]
    whole = np.full((len(frames), max(map(len, frames)), frames[0].shape[1]), np.nan, frames[0].dtype)
    for row, frame in zip(whole, frames, strict=True):
        row[: len(frame)] = frame
    return whole
