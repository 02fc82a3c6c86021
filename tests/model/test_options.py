"""The options of the model: DeePMD-kit's energies, or better ones, and derivatives that are derivatives."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import for_deepmd, model_dictionary, pair_table, read_model
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Capacity
from dpax.model.energy_model import EnergyModel
from dpax.model.file import load_model, save_model
from dpax.model.pair_table import read_pair_table
from dpax.model.short_range import ShortRange
from oracle.deepmd_model import TYPE_MAP, make_model, make_zbl_model, structures, write_pair_table
from oracle.deepmd_model import evaluate as deepmd_evaluate

from .support import energies_of, evaluate, tiny_model

STRUCTURES = structures()
ROOM = Capacity(atoms=56, slots=64)
PRESET = {"energy": [None, np.array([1.5])]}


def told(model, structure, seed=0):
    """fparam and aparam of a structure for a model, None where it takes none."""
    rng = np.random.default_rng(seed)
    n_frame, n_atom, _ = model.spec.parameter_widths
    fparam = rng.normal(size=n_frame) if n_frame else None
    aparam = rng.normal(size=(len(structure.atype), n_atom)) if n_atom else None
    return fparam, aparam


def frames_of(model):
    """The structures as frames with the parameters that the model takes."""
    frames = []
    for number, s in enumerate(STRUCTURES.values()):
        parts = told(model, s, number)
        columns = [
            np.broadcast_to(part, (len(s.atype), part.shape[-1])) for part in parts if part is not None
        ]
        rows = np.concatenate(columns, axis=1) if columns else np.zeros((len(s.atype), 0))
        frames.append((s.coord, s.atype, s.box, [s.box is not None] * 3, rows))
    return frames


def assert_equal(model, reference, *, mask_needs_aparam=0):
    """Both ways: the energies of `reference` here, and of `model` there once more."""
    back = type(reference).deserialize(model_dictionary(for_deepmd(model)))
    energies = energies_of(model, frames_of(model), ROOM)
    start = 0
    for number, s in enumerate(STRUCTURES.values()):
        fparam, aparam = told(model, s, number)
        if mask_needs_aparam:
            aparam = np.zeros((len(s.atype), mask_needs_aparam))
        energy, atomic = deepmd_evaluate(reference, *s, fparam=fparam, aparam=aparam)
        got = energies[start : start + len(atomic)]
        np.testing.assert_allclose(got, atomic, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(got.sum(), energy, rtol=1e-10, atol=1e-11)
        again = deepmd_evaluate(back, *s, fparam=fparam, aparam=aparam)[1]
        np.testing.assert_allclose(again, atomic, rtol=1e-12, atol=1e-12)
        start += len(atomic)


CASES = {
    "fparam": (1, {}, {"numb_fparam": 2}, {}),
    "aparam": (2, {}, {"numb_aparam": 3}, {}),
    "both, one head of many": (1, {}, {"numb_fparam": 1, "numb_aparam": 2, "dim_case_embd": 3}, {}),
    "default fparam": (2, {}, {"numb_fparam": 2, "default_fparam": [0.3, -1.0]}, {}),
    "silent type": (1, {}, {}, {"atom_exclude_types": [0]}),
    "unseen pair, mean not zero": (2, {}, {}, {"pair_exclude_types": [(0, 1), (1, 1)]}),
    "unseen pair, concat": (1, {"set_davg_zero": False}, {}, {"pair_exclude_types": [(0, 0)]}),
    "unseen pair twice": (2, {"exclude_types": [[0, 1]]}, {}, {"pair_exclude_types": [(0, 1)]}),
    "preset": (2, {}, {}, {"preset_out_bias": PRESET, "rcond": 1e-3}),
    "zeros subtracted": (1, {}, {"atom_ener": [-1.0, None]}, {}),
    "zeros subtracted with fparam": (2, {}, {"atom_ener": [-1.0, 2.0], "numb_fparam": 1}, {}),
    "silent in fitting": (2, {}, {"exclude_types": [1]}, {}),
    "many": (
        1,
        {"tebd_input_mode": "strip"},
        {"numb_aparam": 1, "atom_ener": [None, 2.0]},
        {"atom_exclude_types": [1], "pair_exclude_types": [(1, 0)]},
    ),
}


@pytest.mark.parametrize(("version", "descriptor", "fitting", "options"), CASES.values(), ids=CASES)
def test_energies_equal_deepmd(version, descriptor, fitting, options):
    reference = make_model(version, TYPE_MAP, descriptor, fitting, random_statistics=True, **options)
    if "dim_case_embd" in fitting:
        reference.atomic_model.fitting_net.set_case_embd(1)
    assert_equal(read_model(reference.serialize()), reference)


def test_excluded_pairs_of_model_and_descriptor_differ():
    """Quirk of DeePMD-kit's: an empty slot is -mean/deviation, an excluded one is zero."""
    energies = [
        energies_of(read_model(reference.serialize()), frames_of(tiny_model()), ROOM)
        for reference in (
            make_model(2, random_statistics=True, pair_exclude_types=[(0, 1)]),
            make_model(2, descriptor_options={"exclude_types": [[0, 1]]}, random_statistics=True),
        )
    ]
    assert np.abs(energies[0] - energies[1]).max() > 1e-3


def test_bias_of_the_fitting_net_counts():
    reference = make_model(1, TYPE_MAP)
    reference.atomic_model.fitting_net["bias_atom_e"] = np.array([[0.7], [-0.2]])
    assert_equal(read_model(reference.serialize()), reference)


def test_aparam_as_a_mask_is_not_told_to_the_net():
    reference = make_model(1, TYPE_MAP, None, {"numb_aparam": 2, "use_aparam_as_mask": True})
    model = read_model(reference.serialize())
    assert model.spec.parameter_widths == (0, 0, None)
    assert model_dictionary(model)["fitting"]["numb_aparam"] == 2
    assert_equal(model, reference, mask_needs_aparam=2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_versions_of_the_fitting_are_read(version):
    """What they did not have is what they did: no default, no case, no parameters."""
    reference = make_model(1, TYPE_MAP)
    data = reference.serialize()
    later = ["default_fparam", "dim_case_embd", "type_map"][version - 1 :]
    fitting = {k: v for k, v in data["fitting"].items() if k not in later} | {"@version": version}
    fitting["@variables"] = {k: v for k, v in fitting["@variables"].items() if k != "case_embd"}
    model = read_model(data | {"fitting": fitting})
    frames = frames_of(model)
    np.testing.assert_array_equal(
        energies_of(model, frames, ROOM), energies_of(read_model(data), frames, ROOM)
    )


def test_layers_shared_by_name_are_refused():
    data = make_model(1, TYPE_MAP).serialize()
    data["fitting"]["layer_name"] = ["a", None, None]
    with pytest.raises(InputError, match="layer_name"):
        read_model(data)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_pair_table(tmp_path_factory.mktemp("table") / "zbl.txt")


ZBL = {
    "v1": (1, {}, {}, {}),
    "v2 with everything": (
        2,
        {},
        {"numb_fparam": 1, "atom_ener": [1.0, None]},
        {"pair_exclude_types": [(0, 0)], "sw_rmin": 0.9, "sw_rmax": 2.0, "smin_alpha": 0.3},
    ),
    "silent type": (1, {}, {}, {"atom_exclude_types": [1], "sw_rmin": 1.5, "sw_rmax": 3.0}),
}


@pytest.mark.parametrize(("version", "descriptor", "fitting", "options"), ZBL.values(), ids=ZBL)
def test_short_range_equals_deepmd(table, version, descriptor, fitting, options):
    reference = make_zbl_model(
        version, table, TYPE_MAP, descriptor, fitting, random_statistics=True, **options
    )
    model = read_model(reference.serialize())
    assert model.spec.short_range is not None
    assert_equal(model, reference)
    without = replace(model, spec=model.spec.changed(short_range=None))
    frames = frames_of(model)
    change = energies_of(model, frames, ROOM) - energies_of(without, frames, ROOM)
    assert np.abs(change).max() > 0.1


def test_short_range_beside_a_bias_of_the_net(table):
    reference = make_zbl_model(1, table, sw_rmin=0.9, sw_rmax=2.0)
    reference.atomic_model.models[0].fitting_net["bias_atom_e"] = np.array([[0.7], [-0.2]])
    assert_equal(read_model(reference.serialize()), reference)


@pytest.mark.parametrize(
    ("rcut", "settings"),
    [(4.0, {}), (2.0, {}), (3.015, {}), (3.0, {"scale": 0.0}), (5.0, {"scale": 0.0}), (4.0, {"n_types": 3})],
)
def test_a_table_is_read_as_deepmd_reads_it(tmp_path, rcut, settings):
    from deepmd.utils.pair_tab import PairTab

    path = write_pair_table(tmp_path / "table.txt", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = pair_table(read_pair_table(path, rcut, ["O", "H", "C"][: settings.get("n_types", 2)]))
    theirs = PairTab(str(path), rcut).serialize()
    for key, value in theirs.pop("@variables").items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(ours["@variables"][key], value, rtol=1e-12, atol=1e-12 * scale)
    assert {k: v for k, v in ours.items() if k != "@variables"} == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1 1 2\n0.2 1 2\n", "need at least 2 rows of 4"),
        ("0.1 1 2 3\n", "need at least 2 rows of 4"),
        ("0.1 1 2 3\n0.2 1 2 3\n0.4 1 2 3\n", "rise in equal steps"),
        ("0.1 1 2 nan\n0.2 1 2 3\n", "be finite"),
        ("0.2 1 2 3\n0.1 1 2 3\n", "must rise"),
        ("a b c d\n", "is not a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, message):
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pair_table(tmp_path / "table.txt", 4.0, ["O", "H"])


def test_a_table_that_ends_abruptly_is_warned_of(table):
    with pytest.warns(UserWarning, match="not zero at the cutoff"):
        read_pair_table(table, 1.0, ["O", "H"])


def with_options(table, add_bias=True, **more) -> EnergyModel:
    plain = tiny_model(version=2)
    short = ShortRange(
        table=read_pair_table(table, plain.rcut, ["O", "H"]),
        sw_rmin=0.5,
        sw_rmax=2.5,
        smin_alpha=0.2,
        add_bias=add_bias,
    )
    return replace(plain, spec=plain.spec.changed(short_range=short, **more)).with_bias([-3.0, 2.0])


OPTIONS = {
    "short range": lambda table: with_options(table),
    "short range without bias": lambda table: with_options(table, add_bias=False),
    "exclusions": lambda table: with_options(table, atom_exclude_types=[0], pair_exclude_types=[(0, 0)]),
    "isolated atoms": lambda table: with_options(table, isolated_energies=[-7.0, None]),
    "parameters": lambda table: read_model(
        make_model(1, fitting_options={"numb_fparam": 1, "numb_aparam": 2}).serialize()
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_forces_and_virial_are_derivatives(table, name):
    model = OPTIONS[name](table)
    rng = np.random.default_rng(4)
    cell = np.array([[6.2, 0.0, 0.0], [1.3, 5.9, 0.0], [-0.8, 1.1, 6.4]])
    x, types = rng.random((9, 3)) @ cell, rng.integers(0, 2, 9)
    direction, strain = rng.normal(size=x.shape), 0.3 * rng.normal(size=(3, 3))
    inputs = rng.normal(size=(9, sum(model.spec.parameter_widths[:2])))
    h = 1e-5
    steps = np.array([-2, -1, 1, 2]) * h
    pbc = [True] * 3
    frames = [(x, types, cell, pbc, inputs)]
    frames += [(x + s * direction, types, cell, pbc, inputs) for s in steps]
    strained = [np.eye(3) + s * strain for s in steps]
    frames += [(x @ f.T, types, cell @ f.T, pbc, inputs) for f in strained]
    prediction = evaluate(model, frames)
    energies = prediction.energies[: 9 * 9].reshape(9, 9).sum(axis=1)
    stencil = np.array([1, -8, 8, -1]) / (12 * h)
    scale = max(1.0, np.abs(prediction.forces).max())
    work = np.sum(prediction.forces[:9] * direction)
    np.testing.assert_allclose(-stencil @ energies[1:5], work, atol=1e-7 * scale)
    np.testing.assert_allclose(
        -stencil @ energies[5:9], np.sum(prediction.virials[0] * strain), atol=1e-7 * scale
    )
    np.testing.assert_allclose(prediction.virials[0], prediction.virials[0].T, atol=1e-10 * scale)


def test_short_range_acts_as_float64_in_float32(table):
    wide = with_options(table)
    narrow = read_model(in_float32(model_dictionary(wide)))
    r = np.linspace(0.1, wide.rcut + 0.01, 400)
    frames = [(np.array([[0, 0, 0], [x, 0, 0]]), np.array([0, 1]), None, [False] * 3) for x in r]
    exact, single = (evaluate(model, frames, Capacity(800, 8), 400) for model in (wide, narrow))
    scale = np.abs(exact.forces[:800]).reshape(400, 6).max(axis=1)
    error = np.abs(single.forces[:800] - exact.forces[:800]).reshape(400, 6).max(axis=1)
    assert (error < 1e-4 + 1e-3 * scale).all()


def in_float32(tree):
    if isinstance(tree, dict):
        return {k: "float32" if k == "precision" else in_float32(v) for k, v in tree.items()}
    return [in_float32(v) for v in tree] if isinstance(tree, list) else tree


ALONE = [(np.zeros((1, 3)), np.array([t]), None, [False] * 3) for t in (0, 1)]


def with_isolated_energies(plain, energies, bias) -> EnergyModel:
    return replace(plain, spec=plain.spec.changed(isolated_energies=energies)).with_bias(bias)


@pytest.mark.parametrize("version", [1, 2])
def test_isolated_atoms_have_the_energy_that_was_asked(version):
    """DeePMD-kit subtracts the net's energy of a descriptor of zeros instead, which is another number."""
    plain = tiny_model(version=version)
    model = with_isolated_energies(plain, [-7.5, None], [-7.5, 2.0])
    energies = energies_of(model, ALONE, ROOM)
    assert energies[0] == pytest.approx(-7.5, abs=1e-12)
    unchanged = energies_of(plain, ALONE, ROOM)
    assert energies[1] == unchanged[1] != 2.0


def test_isolated_atoms_under_parameters():
    plain = read_model(
        make_model(
            2, fitting_options={"numb_fparam": 1, "numb_aparam": 1}, random_statistics=True
        ).serialize()
    )
    model = with_isolated_energies(plain, [-7.5, 3.0], [-7.5, 3.0])
    frames = [(*frame, np.array([[p, -p]])) for frame in ALONE for p in (0.1, 2.0)]
    np.testing.assert_allclose(energies_of(model, frames, ROOM)[:4], [-7.5, -7.5, 3.0, 3.0], atol=1e-12)
    with pytest.raises(InputError, match="under any fparam and aparam"):
        for_deepmd(model)


@pytest.mark.parametrize("options", [{}, {"short": True}, {"short": True, "add_bias": False}])
def test_deepmd_reads_what_only_dpax_has(table, tmp_path, options):
    """Isolated energies and a table without bias become numbers of DeePMD-kit's biases."""
    if options:
        model = with_options(table, isolated_energies=[-3.0, None], add_bias=options.get("add_bias", True))
        reference = make_zbl_model(2, table)
    else:
        model = with_isolated_energies(tiny_model(version=2), [-3.0, None], [-3.0, 2.0])
        reference = make_model(2)
    there = type(reference).deserialize(model_dictionary(for_deepmd(model)))
    energies = energies_of(model, frames_of(model), ROOM)
    start = 0
    for s in STRUCTURES.values():
        atomic = deepmd_evaluate(there, *s)[1]
        if len(s.atype) < 20:  # the other has atoms with more neighbours than sel
            np.testing.assert_allclose(energies[start : start + len(atomic)], atomic, rtol=1e-10, atol=1e-10)
        start += len(atomic)
    save_model(tmp_path / "model.dpax", model, {})
    again = load_model(tmp_path / "model.dpax")[0]
    assert again.spec == model.spec
    np.testing.assert_array_equal(energies_of(again, frames_of(model), ROOM), energies)


def test_a_table_lacks_new_elements(table):
    model = with_options(table)
    with pytest.raises(InputError, match="has no C"):
        model.change_type_map(("O", "H", "C"))
    frame = frames_of(model)[2]
    before = energies_of(model, [frame], Capacity(16, 16))
    turned = model.change_type_map(("H", "O"))
    flipped = (frame[0], 1 - np.asarray(frame[1]), *frame[2:])
    after = energies_of(turned, [flipped], Capacity(16, 16))
    np.testing.assert_allclose(after[: len(frame[0])], before[: len(frame[0])], atol=1e-12)


def test_options_that_are_not_used_cost_nothing():
    """A plain model has no branch of them: the program is that of a model without."""
    spec, weights = tiny_model().spec, tiny_model().weights()
    assert (spec.atom_exclude_types, spec.fitting.exclude_types, spec.pair_exclude_types) == ((), (), ())
    assert spec.short_range is weights.missing_bias is weights.vacuum is None
    assert weights.fitting.parameters is weights.fitting.case is None


def test_virtual_atoms_are_no_atoms():
    """DeePMD-kit computes them along, as nothing; here the readers leave them out."""
    reference = make_model(2, random_statistics=True)
    model = read_model(reference.serialize())
    s = STRUCTURES["cluster"]
    coord, atype = np.insert(s.coord, [0, 4], s.coord[0] + 0.3, axis=0), np.insert(s.atype, [0, 4], -1)
    atomic = deepmd_evaluate(reference, coord, atype)[1]
    assert not atomic[atype < 0].any()
    frame = (s.coord, s.atype, None, [False] * 3)
    np.testing.assert_allclose(
        energies_of(model, [frame], ROOM)[: len(s.atype)], atomic[atype >= 0], rtol=1e-10
    )
