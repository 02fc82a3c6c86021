"""Where a command may write."""

from pathlib import Path

from dpax.errors import InputError


def refuse_inputs(output: Path, *inputs: Path | str) -> None:
    """Check that an output file is neither an input of the command nor a file of a training run.

    Args:
        output: the file to be written.
        inputs: files, and folders of DeePMD-kit's layout.

    Raises:
        InputError: it is one, under any name.
    """
    _refuse_run_files(output)
    for path in map(Path, inputs):
        if output.exists() and path.exists() and (output.samefile(path) or _is_data_in(output, path)):
            raise InputError(f"{output} is read by this command; give another name for what it writes")


def _refuse_run_files(output: Path) -> None:
    from dpax.train.file_names import CHECKPOINTS, INPUT, is_reserved

    folder = output.absolute().parent
    is_run = (folder / INPUT).is_file() and (folder / CHECKPOINTS).is_dir()
    if is_run and output.exists() and is_reserved(output.name):
        raise InputError(f"{output} belongs to the run {folder}; give another name for what is written")


def _is_data_in(file: Path, folder: Path) -> bool:
    inside = folder.is_dir() and file.resolve().is_relative_to(folder.resolve())
    return inside and file.suffix in (".raw", ".npy", ".mdb")
