"""DPA-1 with stripped type embedding and smoothness fixed: DeePMD-kit's `se_atten_v2`."""

from collections.abc import Sequence
from typing import Any, ClassVar

from dpax.deepmd.dpa1 import DescrptDPA1
from dpax.errors import InputError
from dpax.nn.arrays import Arrays
from dpax.nn.initial import Seed


class DescrptSeAttenV2(DescrptDPA1):
    """`DescrptDPA1` with `tebd_input_mode="strip"` and `smooth_type_embedding=True`.

    Args are those of `DescrptDPA1` without these two.

    Raises:
        InputError: as `DescrptDPA1`, and for `stripped_type_embedding=False`.
    """

    type: ClassVar[str] = "se_atten_v2"

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int,
        neuron: Sequence[int] = (25, 50, 100),
        axis_neuron: int = 8,
        tebd_dim: int = 8,
        resnet_dt: bool = False,
        trainable: bool = True,
        type_one_side: bool = False,
        attn: int = 128,
        attn_layer: int = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: float = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float | None = 1e-5,
        concat_output_tebd: bool = True,
        spin: object = None,
        stripped_type_embedding: bool | None = None,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        lmax: int = 1,
        *,
        arrays: Arrays | None = None,
        **own: Any,
    ):
        if stripped_type_embedding is False:
            raise InputError(
                "se_atten_v2 always has a stripped type embedding; take DescrptDPA1 (se_atten) for 'concat'"
            )
        arguments = dict(locals())
        for name in ("self", "__class__", "own"):
            arguments.pop(name)
        super().__init__(**arguments, **own, tebd_input_mode="strip", smooth_type_embedding=True)
