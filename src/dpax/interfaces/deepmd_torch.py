"""DeePMD-kit's PyTorch files: checkpoints, `.pt`, and frozen models, `.pth` (TorchScript).

Nothing is unpickled but tensors and plain containers (`weights_only`). TorchScript is parsed by PyTorch; of a
frozen model only the arrays and the input that it was made from are read, none of its code runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpax.errors import InputError
from dpax.interfaces.deepmd_checkpoint import model_dictionary
from dpax.interfaces.deepmd_source import Source

_DEFAULTS = {"axis_neuron": 16, "set_davg_zero": True}
"""Where DeePMD-kit's PyTorch classes have other defaults than its NumPy and JAX ones."""
_SMIN_ALPHA = 0.1
"""The only value that DeePMD-kit's PyTorch models are made with, whatever their input says."""
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
    return _read_frozen(torch, path) if path.suffix == ".pth" else _read_checkpoint(torch, path)


def _read_checkpoint(torch: Any, path: Path) -> Source:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("model", state)
        script = _plain(state["_extra_state"]["model_params"])
    except Exception as error:  # PyTorch raises what its reader runs into, from EOFError to UnpicklingError
        raise InputError(
            f"not a PyTorch checkpoint of DeePMD-kit, or a damaged one ({_short(error)})"
        ) from None

    def dictionary(branch: str | None) -> dict:
        one = script if branch is None else script["model_dict"][branch]
        prefix = f"model.{branch or 'Default'}.atomic_model."
        return model_dictionary(_completed(one, _SMIN_ALPHA), _named(state, prefix))

    any_branch = next(iter(script.get("model_dict", {"Default": None})))
    distance = _distance(state.get(f"model.{any_branch}.min_nbor_dist"))
    return Source(script, dictionary, distance, {"backend": "PyTorch"})


def _read_frozen(torch: Any, path: Path) -> Source:
    _declare_operator(torch)
    extra = {"data_modifier.pth": ""}
    try:
        frozen = torch.jit.load(path, map_location="cpu", _extra_files=extra)
        script, state = json.loads(frozen.model_def_script), frozen.state_dict()
    except Exception as error:
        raise InputError(f"not a frozen model of DeePMD-kit, or a damaged one ({_short(error)})") from None
    if extra["data_modifier.pth"]:
        script["modifier"] = True
    alpha = getattr(frozen.atomic_model, "smin_alpha", _SMIN_ALPHA)
    return Source(
        script,
        lambda _: model_dictionary(_completed(script, alpha), _named(state, "atomic_model.")),
        _distance(state.get("min_nbor_dist")),
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


def _named(state: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """The arrays below a prefix by the names of JAX models; PyTorch's come twice, once with an underscore."""
    found = {}
    for name, tensor in state.items():
        if name.startswith(prefix) and "._networks." not in name:
            found[_translated(name.removeprefix(prefix))] = _array(tensor)
    return found


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


def _distance(tensor: Any) -> float | None:
    """PyTorch models hold -1 where it is not known."""
    return None if tensor is None or float(tensor) < 0 else float(tensor)


def _plain(tree: Any) -> Any:
    """The input with lists in the place of tensors, so that it can be written as JSON."""
    return json.loads(json.dumps(tree, default=lambda item: item.tolist()))


def _short(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
