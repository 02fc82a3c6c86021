"""DPA-1 with stripped type embedding and smoothness fixed: DeePMD-kit's `se_atten_v2`."""

from collections.abc import Sequence
from typing import ClassVar

from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.errors import InputError
from dpax.nn.initial import Seed
from dpax.nn.serialized import Count, NotNegative, Positive, Types, Width


class DescrptSeAttenV2(DescrptDPA1):
    """`DescrptDPA1` with `tebd_input_mode="strip"` and `smooth_type_embedding=True`.

    Args are those of `DescrptDPA1` without these two.

    Raises:
        InputError: as `DescrptDPA1`, and for `stripped_type_embedding=False`.
    """

    serialized_type: ClassVar[str] = "se_atten_v2"
    block_fixed: ClassVar[tuple[str, ...]] = ("tebd_input_mode", "smooth_type_embedding")

    def __init__(
        self,
        rcut: Positive,
        rcut_smth: NotNegative,
        sel: Width | Sequence[Count],
        ntypes: Types,
        neuron: Sequence[Width] = (25, 50, 100),
        axis_neuron: Width = 8,
        tebd_dim: Width = 8,
        resnet_dt: bool = False,
        trainable: bool = True,
        type_one_side: bool = False,
        attn: Width = 128,
        attn_layer: Count = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: NotNegative = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        scaling_factor: Positive = 1.0,
        normalize: bool = True,
        temperature: Positive | None = None,
        trainable_ln: bool = True,
        ln_eps: NotNegative | None = 1e-5,
        concat_output_tebd: bool = True,
        spin: None = None,
        stripped_type_embedding: bool | None = None,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        lmax: int = 1,
        empty_slots: str = "dense",
        attn_norm: str = "sum",
    ):
        if stripped_type_embedding is False:
            raise InputError(
                "se_atten_v2 always has a stripped type embedding; take DescrptDPA1 (se_atten) for 'concat'"
            )
        super().__init__(
            rcut,
            rcut_smth,
            sel,
            ntypes,
            neuron=neuron,
            axis_neuron=axis_neuron,
            tebd_dim=tebd_dim,
            tebd_input_mode="strip",
            resnet_dt=resnet_dt,
            trainable=trainable,
            type_one_side=type_one_side,
            attn=attn,
            attn_layer=attn_layer,
            attn_dotr=attn_dotr,
            attn_mask=attn_mask,
            exclude_types=exclude_types,
            env_protection=env_protection,
            set_davg_zero=set_davg_zero,
            activation_function=activation_function,
            precision=precision,
            scaling_factor=scaling_factor,
            normalize=normalize,
            temperature=temperature,
            trainable_ln=trainable_ln,
            ln_eps=ln_eps,
            smooth_type_embedding=True,
            concat_output_tebd=concat_output_tebd,
            spin=spin,
            stripped_type_embedding=stripped_type_embedding,
            use_econf_tebd=use_econf_tebd,
            use_tebd_bias=use_tebd_bias,
            type_map=type_map,
            seed=seed,
            lmax=lmax,
            empty_slots=empty_slots,
            attn_norm=attn_norm,
        )
