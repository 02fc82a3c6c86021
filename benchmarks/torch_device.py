"""What DeePMD-kit's PyTorch computes on in this process."""

from typing import Any

import torch
from deepmd.pt.cxx_op import ENABLE_CUSTOMIZED_OP
from deepmd.pt.utils.env import DEVICE


def report() -> dict[str, Any]:
    """Kind and names of the devices, processor threads, and settings that times depend on."""
    gpu = DEVICE.type == "cuda"
    settings = {"operators": "loaded" if ENABLE_CUSTOMIZED_OP else "missing"}
    if gpu:
        settings["float32 matrix products of precision"] = torch.get_float32_matmul_precision()
    return {
        "kind": "gpu" if gpu else DEVICE.type,
        "devices": [torch.cuda.get_device_name(DEVICE) if gpu else DEVICE.type],
        "threads": torch.get_num_threads(),
        "settings": settings,
    }


def peak() -> int | None:
    """The most memory in use by tensors on the GPU so far, bytes; None without one."""
    return torch.cuda.max_memory_allocated(DEVICE) if DEVICE.type == "cuda" else None


def release() -> None:
    """Give back the GPU's memory that PyTorch keeps for later."""
    torch.cuda.empty_cache()
