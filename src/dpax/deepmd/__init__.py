"""DeePMD-kit at the door: its classes, dictionaries, model files, and older layouts of its input files.

The classes are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpax.deepmd.attention import GatedAttentionLayer as GatedAttentionLayer
    from dpax.deepmd.attention import NeighborGatedAttention as NeighborGatedAttention
    from dpax.deepmd.attention import NeighborGatedAttentionLayer as NeighborGatedAttentionLayer
    from dpax.deepmd.dpa1 import DescrptDPA1 as DescrptDPA1
    from dpax.deepmd.se_atten import DescrptBlockSeAtten as DescrptBlockSeAtten
    from dpax.deepmd.se_atten_v2 import DescrptSeAttenV2 as DescrptSeAttenV2

_LAZY = {
    "DescrptBlockSeAtten": "se_atten",
    "DescrptDPA1": "dpa1",
    "DescrptSeAttenV2": "se_atten_v2",
    "GatedAttentionLayer": "attention",
    "NeighborGatedAttention": "attention",
    "NeighborGatedAttentionLayer": "attention",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"dpax.deepmd.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'dpax.deepmd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
