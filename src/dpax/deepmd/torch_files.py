"""DeePMD-kit's PyTorch files: checkpoints, `.pt`, and frozen models, `.pth` (TorchScript).

Nothing is unpickled but tensors and plain containers (`weights_only`). TorchScript is parsed by PyTorch; of a
frozen model only the arrays and the input that it was made from are read, none of its code runs.
"""

import json
import pickletools
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpax.contents import check_tree
from dpax.deepmd.checkpoint import checkpointed_model
from dpax.deepmd.source import Source
from dpax.errors import InputError, brief
from dpax.model.energy_model import EnergyModel

_DEFAULTS = {"axis_neuron": 16, "set_davg_zero": True}
"""Where DeePMD-kit's PyTorch classes have other defaults than its NumPy and JAX ones."""
_SMIN_ALPHA = 0.1
"""The only value that DeePMD-kit's PyTorch models are made with, whatever the input file says."""
_NAMES = {
    "filter_layers_strip": "embeddings_strip",
    "se_atten.filter_layers": "se_atten.embeddings",
    "fitting_net.filter_layers": "fitting_net.nets",
    "networks": "_networks",
    "embedding.embedding_net": "embedding_net",
    "matrix": "w",
    "bias": "b",
}
"""Parts of PyTorch's names, and what they are called in JAX models."""
_PACKED = 1100
"""Deflate makes nothing smaller than by this factor."""
_COMPRESSED = "tabulate_fusion_se_atten"
_SCHEMA = "(Tensor _0, Tensor _1, Tensor _2, Tensor _3, Tensor _4, int _5, bool _6) -> Tensor[]"
"""The operator that DeePMD-kit's frozen DPA-1 models name, compressed or not; it is never called here."""


def read_torch(path: Path) -> Source:
    """Read a `.pt` or `.pth` file.

    Raises:
        InputError: PyTorch is not installed, or not such a file, or a damaged one.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(f"a {path.suffix} file is read with PyTorch: pip install 'dpax[torch]'") from None
    _check_archive(path)
    return _read_frozen(torch, path) if path.suffix == ".pth" else _read_checkpoint(torch, path)


def _check_archive(path: Path) -> None:
    """Check that the parts of a file have their checksums, which PyTorch does not look at.

    Raises:
        InputError: it has not, or is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > _PACKED * path.stat().st_size:
                raise zipfile.BadZipFile(f"its members claim {claimed} bytes")
            changed = archive.testzip()
            for name in archive.namelist():
                if name.endswith(".pkl"):  # PyTorch takes memory for whatever length a damaged string claims
                    deque(pickletools.genops(archive.read(name)), maxlen=0)
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"not a PyTorch file, or a damaged one ({brief(error)})") from None
    if changed is not None:
        raise InputError(f"the file is damaged: the checksum of its part {changed} is not right")


def _read_checkpoint(torch: Any, path: Path) -> Source:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("model", state)
        script = _plain(state["_extra_state"]["model_params"])
        arrays = _arrays(torch, state)
    except Exception as error:  # PyTorch raises what its reader runs into, from EOFError to UnpicklingError
        raise InputError(
            f"not a PyTorch checkpoint of DeePMD-kit, or a damaged one ({brief(error)})"
        ) from None

    def model(branch: str | None) -> EnergyModel:
        section = script if branch is None else script["model_dict"][branch]
        prefix = f"model.{branch or 'Default'}.atomic_model."
        return checkpointed_model(_completed(section, _SMIN_ALPHA), _named(arrays, prefix))

    any_branch = next(iter(script.get("model_dict") or {"Default": None}))
    distance = _distance(arrays.get(f"model.{any_branch}.min_nbor_dist"))
    return Source(script, model, distance, {"backend": "PyTorch"})


def _read_frozen(torch: Any, path: Path) -> Source:
    _declare_operator(torch)
    extra = {"data_modifier.pth": ""}
    try:
        frozen = torch.jit.load(path, map_location="cpu", _extra_files=extra)
        script, arrays = json.loads(frozen.model_def_script), _arrays(torch, frozen.state_dict())
        check_tree(script)
        alpha = float(getattr(frozen.atomic_model, "smin_alpha", _SMIN_ALPHA))
    except Exception as error:
        raise InputError(f"not a frozen model of DeePMD-kit, or a damaged one ({brief(error)})") from None
    if extra["data_modifier.pth"]:
        script["modifier"] = True
    return Source(
        script,
        lambda _: checkpointed_model(_completed(script, alpha), _named(arrays, "atomic_model.")),
        _distance(arrays.get("min_nbor_dist")),
        {"backend": "PyTorch"},
    )


def _declare_operator(torch: Any) -> None:
    """Tell PyTorch of the operator, without which it refuses to read a file that names it."""
    if not hasattr(torch.ops.deepmd, _COMPRESSED):
        library = torch.library.Library("deepmd", "FRAGMENT")
        library.define(_COMPRESSED + _SCHEMA)
        _libraries.append(library)


_libraries: list[Any] = []
"""A library's operators are known for as long as it lives."""


def _completed(script: Mapping[str, Any], smin_alpha: float) -> dict:
    descriptor = _DEFAULTS | script.get("descriptor", {})
    return {**script, "descriptor": descriptor, "smin_alpha": smin_alpha}


def _arrays(torch: Any, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All tensors as NumPy's arrays, which share their memory."""
    return {name: _array(tensor) for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays below a prefix by the names of JAX models; PyTorch's come twice, once with an underscore."""
    return {
        _translated(name.removeprefix(prefix)): array
        for name, array in arrays.items()
        if name.startswith(prefix) and "._networks." not in name
    }


def _translated(name: str) -> str:
    name = f".{name}."
    for torch_name, jax_name in _NAMES.items():
        name = name.replace(f".{torch_name}.", f".{jax_name}.")
    return name.strip(".").replace(".", "/")


def _array(tensor: Any) -> np.ndarray:
    """A tensor as NumPy's array; NumPy has bfloat16 only by its bits."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        import ml_dtypes

        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()


def _distance(array: np.ndarray | None) -> float | None:
    """PyTorch models hold -1 where it is not known."""
    return None if array is None or array < 0 else float(array)


def _plain(tree: Any) -> Any:
    """The input with lists instead of tensors, so that it can be written as JSON."""
    plain = json.loads(json.dumps(tree, default=lambda item: item.tolist()))
    check_tree(plain)
    return plain
