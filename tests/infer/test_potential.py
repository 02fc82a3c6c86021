"""Evaluating structures: DeePMD-kit's energies, alone or in company, in the model's own precision."""

import json
from contextlib import contextmanager

import ase
import jax
import numpy as np
import pytest
from ase.data import atomic_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from dpax import Potential, load
from dpax.data import Frame
from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.descriptor.attention import AttentionWeights
from dpax.errors import InputError
from dpax.infer.evaluation import Evaluation
from dpax.model.file import save_model
from infer.support import told_potential
from model.support import tiny_model
from oracle.deepmd_model import TYPE_MAP, Structure, make_model, structures
from oracle.deepmd_model import evaluate as deepmd_evaluate

STRUCTURES = structures()
OPTIONS = {"attn_layer": 1, "neuron": [4, 8]}


def atoms_of(structure: Structure) -> ase.Atoms:
    symbols = [TYPE_MAP[t] for t in structure.atype]
    return ase.Atoms(symbols, structure.coord, cell=structure.box, pbc=structure.box is not None)


ATOMS = [atoms_of(structure) for structure in STRUCTURES.values()]


@pytest.fixture(scope="module")
def potential() -> Potential:
    """One potential for all tests that need no particular one: its programs are compiled once."""
    return Potential(tiny_model(**OPTIONS))


def water(seed=0, n=24, box=7.0) -> ase.Atoms:
    """O and H, not closer than about 1 Å to each other."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.cbrt(n)))
    grid = np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T[:n] * box / side
    shaken = grid + rng.uniform(-0.2, 0.2, (n, 3))
    return ase.Atoms(["O", "H", "H"] * (n // 3), shaken, cell=[box] * 3, pbc=True)


@contextmanager
def compilations():
    """A list that grows with every program compiled within."""
    seen = []

    def note(event, duration, **_):
        if event.startswith("/jax/core/compile/"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture(scope="module", params=[1, 2])
def reference(request):
    return make_model(request.param, descriptor_options=OPTIONS, random_statistics=True)


@pytest.fixture(scope="module")
def frugal(reference) -> tuple[Potential, list]:
    """A potential that has one program for everything, and what it says of the structures one by one."""
    potential = Potential(read_model(reference.serialize()))
    potential.preparation._planner.programs = 2
    potential.evaluate(ATOMS)
    return potential, [potential.evaluate(atoms, atomic_virials=True) for atoms in ATOMS]


def test_energies_equal_deepmd(reference, frugal):
    potential, alone = frugal
    for together, single, structure in zip(
        potential.evaluate(ATOMS), alone, STRUCTURES.values(), strict=True
    ):
        energy, atomic = deepmd_evaluate(reference, *structure)
        for got in (together, single):
            np.testing.assert_allclose(got.energy, energy, rtol=1e-10)
            np.testing.assert_allclose(got.energies, atomic, rtol=1e-10, atol=1e-12)


@settings(max_examples=15)
@given(order=st.permutations(range(len(ATOMS))), most=st.sampled_from([1, 13, 25, 8192]))
def test_company_and_order_change_nothing(frugal, order, most):
    """A list gives the results in its own order, however it is cut into groups."""
    potential, alone = frugal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpax.infer.preparation._ATOMS_AT_ONCE", most)
        found = potential.evaluate([ATOMS[n] for n in order], atomic_virials=True)
    for got, n in zip(found, order, strict=True):
        np.testing.assert_allclose(got.energy, alone[n].energy, rtol=1e-13)
        for name in ("energies", "forces", "virial", "virials"):
            np.testing.assert_allclose(
                getattr(got, name), getattr(alone[n], name), rtol=1e-11, atol=1e-12, err_msg=name
            )


def test_results_have_their_shapes_and_belong_together(frugal):
    potential, alone = frugal
    for atoms, result in zip(ATOMS, alone, strict=True):
        n = len(atoms)
        assert type(result.energy) is float
        assert result.energies.shape == (n,)
        assert result.forces.shape == (n, 3)
        assert result.virials.shape == (n, 3, 3)
        np.testing.assert_allclose(result.energies.sum(), result.energy, rtol=1e-12)
        np.testing.assert_allclose(result.virials.sum(axis=0), result.virial, rtol=1e-9, atol=1e-11)
        if atoms.pbc.all():
            np.testing.assert_allclose(result.volume, atoms.get_volume())
            np.testing.assert_allclose(result.stresses.sum(axis=0), result.stress, rtol=1e-9, atol=1e-13)
        else:
            with pytest.raises(InputError, match="periodic in all three directions"):
                _ = result.stress
    plain = potential.evaluate(ATOMS[0])
    assert plain.virials is None
    with pytest.raises(InputError, match="atomic_virials=True"):
        _ = plain.stresses
    assert potential.evaluate([]) == []


def test_devices_and_blocks_change_nothing(frugal):
    potential, alone = frugal
    single = Potential(potential.model, devices=jax.devices()[:1], block_size=5)
    for got, expected in zip(single.evaluate(ATOMS), alone, strict=True):
        np.testing.assert_allclose(got.energies, expected.energies, rtol=1e-12)
        np.testing.assert_allclose(got.forces, expected.forces, rtol=1e-10, atol=1e-12)


def test_frames_are_taken_like_atoms(potential):
    structure = STRUCTURES["triclinic"]
    frame = Frame(structure.coord, structure.atype, structure.box, (True, True, True), "a frame")
    assert potential.evaluate(frame).energy == potential.evaluate(atoms_of(structure)).energy
    foreign = Frame(structure.coord, structure.atype + 1, structure.box, (True, True, True), "a frame")
    with pytest.raises(InputError, match="a frame: has type 2; the potential's types are 0 to 1: O H"):
        potential.evaluate(foreign)


@pytest.fixture(scope="module", params=["float32", "float64"])
def model_file(request, tmp_path_factory):
    """A precision, a model file in it, and what its potential says of the first structure."""
    path = tmp_path_factory.mktemp("model") / "model.dpax"
    data = with_precision(model_dictionary(tiny_model(**OPTIONS)), request.param)
    save_model(path, read_model(data), {})
    return request.param, path, load(path).evaluate(ATOMS[0])


@pytest.mark.parametrize("x64", [True, False])
def test_each_model_computes_in_its_own_precision(potential, model_file, x64):
    """Whatever the process's mode is: the same bits, and those of the right precision."""
    precision, path, expected = model_file
    with jax.enable_x64(x64):
        loaded = load(path)
        got = loaded.evaluate(ATOMS[0])
    np.testing.assert_array_equal(got.forces, expected.forces)
    np.testing.assert_array_equal(got.energies, expected.energies)
    assert got.forces.dtype == np.float64
    assert loaded.model.dtype == np.dtype(precision)
    deviation = np.abs(got.forces - potential.evaluate(ATOMS[0]).forces).max()
    assert deviation == 0 if precision == "float64" else 1e-9 < deviation < 1e-4


def with_precision(tree, precision):
    if isinstance(tree, dict):
        return {k: precision if k == "precision" else with_precision(v, precision) for k, v in tree.items()}
    return [with_precision(v, precision) for v in tree] if isinstance(tree, list) else tree


def test_large_energy_bias_does_not_spoil_float32():
    """Two configurations of 192 atoms at -30,000 eV an atom: their difference as in float64."""
    data = model_dictionary(tiny_model(rcut=3.0, **OPTIONS))
    data["@variables"]["out_bias"] = np.array([[[-30_000.0], [-29_000.0]]])
    configurations = [water(seed, 192, 12.4) for seed in (1, 2)]
    difference = {}
    for precision in ("float32", "float64"):
        potential = Potential(read_model(with_precision(data, precision)))
        first, second = potential.evaluate(configurations)
        assert first.energy < -5e6
        difference[precision] = second.energy - first.energy
    assert abs(difference["float64"]) > 0.01
    assert difference["float32"] == pytest.approx(difference["float64"], abs=1e-4)


@pytest.mark.parametrize("version", [1, 2])
def test_attention_multiplied_out_says_the_same(version, monkeypatch):
    """A whole model beside itself with queries, keys and values as they are."""
    bias = np.random.default_rng(1).normal(size=96)
    model = tiny_model(version=version, neuron=[4, 8], attn=32)
    model = model.with_arrays({f"descriptor/attention/{layer}/in_proj/b": bias for layer in range(2)})
    atoms = water()
    found = Potential(model).evaluate(atoms)
    monkeypatch.setattr("dpax.descriptor.attention.folded", lambda weights, spec: weights)
    plain = Potential(model)
    assert all(
        isinstance(layer, AttentionWeights) for layer in plain.computation.weights.descriptor.attention
    )
    expected = plain.evaluate(atoms)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.virial, expected.virial, rtol=0, atol=1e-11)


def test_nothing_is_compiled_again_while_shapes_stay_in_their_bucket(potential):
    atoms = water()
    potential.evaluate(atoms, atomic_virials=True)
    with compilations() as compiled:
        energies = []
        for step in range(5):
            atoms.rattle(0.02, seed=step)
            atoms.set_cell(atoms.cell.array * (1.0 + 1e-3 * step), scale_atoms=True)
            atoms.symbols[step] = "H" if atoms.symbols[step] == "O" else "O"
            energies.append(potential.evaluate(atoms, atomic_virials=True).energy)
        potential.evaluate(atoms[:-1], atomic_virials=True)  # fewer atoms fit too
    assert not compiled
    assert len(set(energies)) == 5


def test_small_structure_is_not_computed_in_the_arrays_of_large_ones(potential):
    """A potential that has seen many sizes must not evaluate a molecule at the price of a crystal."""
    small, large = Potential(potential.model), Potential(potential.model)
    small.preparation._planner.fit(10, 16)
    for atoms in (1000, 2000, 3000, 4000, 5000, 6000):
        large.preparation._planner.fit(atoms, 104)
    assert large.preparation._planner.fit(10, 16).atoms <= 16


def test_partly_periodic_structures(potential):
    """A slab is a crystal with vacuum; what the cell holds along a free direction plays no part."""
    slab = water(3, 12, 5.0)
    slab.pbc = [True, True, False]
    vacuum = slab.copy()
    vacuum.set_cell([5.0, 5.0, 20.0])
    vacuum.pbc = True
    moved = slab.copy()
    moved.cell[2] = [0.3, 0.1, 0.5]
    wire = slab.copy()
    wire.pbc = [False, True, False]
    bare = wire.copy()
    bare.set_cell([[0, 0, 0], [0, 5.0, 0], [0, 0, 0]])
    results = potential.evaluate([slab, vacuum, moved, wire, bare])
    for first, second in ((0, 1), (0, 2), (3, 4)):
        assert results[first].energy == pytest.approx(results[second].energy, rel=1e-12)
        np.testing.assert_allclose(results[first].forces, results[second].forces, atol=1e-11)
    assert abs(results[0].energy - results[3].energy) > 1e-6
    with pytest.raises(InputError, match="periodic in all three directions"):
        _ = results[0].stress


def test_cell_of_a_cluster_plays_no_part(potential):
    cluster = ATOMS[2]
    boxed = cluster.copy()
    boxed.set_cell([3.0, 3.0, 3.0])
    first, second = potential.evaluate([cluster, boxed])
    assert first.energy == second.energy


def test_atoms_without_neighbours(potential):
    """Alone, in an empty box or out of sight of the others: the same finite energy, and no force."""
    alone = ase.Atoms("H", [[1.0, 2.0, 3.0]])
    boxed = ase.Atoms("H", [[1.0, 2.0, 3.0]], cell=[30.0] * 3, pbc=True)
    far = atoms_of(STRUCTURES["out of sight"])
    first, second, third = potential.evaluate([alone, boxed, far], atomic_virials=True)
    assert np.isfinite(first.energy)
    assert first.energy == pytest.approx(second.energy, rel=1e-13)
    assert third.energies[2] == pytest.approx(first.energy, rel=1e-13)
    for forces in (first.forces, second.forces, third.forces[2], first.virials, second.stress):
        assert not np.any(forces)


def test_left_handed_cell(potential):
    atoms = atoms_of(STRUCTURES["small cell"])
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    first, second = potential.evaluate([atoms, mirrored])
    assert first.energy == pytest.approx(second.energy, rel=1e-12)
    np.testing.assert_allclose(first.stress, second.stress, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: ase.Atoms(), "no atoms"),
        (lambda a: ase.Atoms("OAg", [[0, 0, 0], [1, 1, 1]]), r"contains Ag, .*type_map \['O', 'H'\]"),
        (lambda a: ase.Atoms("OX", [[0, 0, 0], [1, 1, 1]]), "contains X"),
        (lambda a: a.positions.__setitem__(1, a.positions[0]), "atoms 0 and 1 .* at the same position"),
        (lambda a: a.positions.__setitem__(1, a.positions[0] + a.cell[2]), "at the same position"),
        (lambda a: a.positions.__setitem__((2, 1), np.nan), "NaN or infinite.*row 2"),
        (lambda a: a.cell.__setitem__(0, [0, 0, 0]), "zero volume"),
        (lambda a: a.cell.__setitem__(0, [np.inf, 0, 0]), "cell holds NaN or infinite"),
    ],
)
def test_mistakes_are_named(potential, change, message):
    atoms = water()
    other = change(atoms)
    atoms = atoms if other is None else other
    with pytest.raises(InputError, match=f"structure: .*{message}"):
        potential.evaluate(atoms)
    with pytest.raises(InputError, match=f"structure 1: .*{message}"):
        potential.evaluate([water(), atoms])


@pytest.mark.parametrize("name", ["small cell", "out of sight"])
def test_hessian_is_the_derivative_of_the_forces(potential, name):
    atoms = atoms_of(STRUCTURES[name])
    n = len(atoms)
    hessian = potential.hessian(atoms)
    assert hessian.shape == (3 * n, 3 * n)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-10)
    np.testing.assert_allclose(hessian.reshape(n, 3, n, 3).sum(axis=2), 0, atol=1e-10)
    h = 1e-4
    moved = []
    for coordinate in range(3 * n):
        for steps in (-2, -1, 1, 2):
            copy = atoms.copy()
            copy.positions.reshape(-1)[coordinate] += steps * h
            moved.append(copy)
    forces = np.array([result.forces.ravel() for result in potential.evaluate(moved)])
    stencil = np.array([1, -8, 8, -1]) / (12 * h)
    np.testing.assert_allclose(hessian, -stencil @ forces.reshape(3 * n, 4, -1), atol=1e-7)


def test_hessian_after_large_structures_is_of_its_own_size(potential):
    """Arrays of other structures would make it hundreds of times slower: one pass for each row."""
    potential.preparation._planner.fit(5000, 104)
    assert potential.hessian(atoms_of(STRUCTURES["out of sight"])).shape == (9, 9)


def test_potential_describes_itself(tmp_path):
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(), {"step": 7})
    potential = load(str(path))
    assert potential.type_map == ("O", "H")
    assert potential.rcut == 4.0
    assert potential.provenance == {"step": 7}
    assert json.loads(json.dumps(potential.settings))["descriptor"]["neuron"] == [4, 8, 16]
    assert all(symbol in atomic_numbers for symbol in potential.type_map)


def parametric() -> Potential:
    """Of a model that is told two numbers of each frame and one of each atom."""
    return told_potential(2, 1, version=2)


def test_parameters_come_with_the_structure_or_with_the_call():
    potential = parametric()
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    named = atoms.copy()
    named.info["fparam"], named.arrays["aparam"] = [0.5, -1.0], np.array([[0.1], [0.2]])
    expected = potential.evaluate(named)
    given = potential.evaluate([atoms, named], fparam=[0.5, -1.0], aparam=[[0.1], [0.2]])
    for one in given:
        np.testing.assert_allclose(one.forces, expected.forces, rtol=1e-12, atol=1e-14)
    assert potential.evaluate(named, fparam=[0.5, 2.0]).energy != expected.energy
    alike = potential.evaluate(named, aparam=[0.3])
    assert alike.energy == potential.evaluate(named, aparam=[[0.3], [0.3]]).energy != expected.energy
    h = 1e-4
    moved = [named.copy() for _ in range(2)]
    for sign, one in zip((1, -1), moved, strict=True):
        one.positions[1, 2] += sign * h
    slope = np.subtract(*(one.energy for one in potential.evaluate(moved))) / (2 * h)
    np.testing.assert_allclose(-slope, expected.forces[1, 2], atol=1e-6)
    np.testing.assert_allclose(potential.hessian(named).sum(axis=0), 0, atol=1e-9)


def test_parameters_that_are_missing_or_too_many_are_named():
    potential = parametric()
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    with pytest.raises(InputError, match="structure 0: has no fparam, of which the model takes 2"):
        potential.evaluate([atoms])
    with pytest.raises(InputError, match="structure: has 3 fparam for each frame, but the model takes 2"):
        potential.evaluate(atoms, fparam=[1, 2, 3], aparam=[0.0])
    with pytest.raises(
        InputError, match="structure: has no aparam, of which the model takes 1 for each atom"
    ):
        potential.evaluate(atoms, fparam=[1, 2])


def test_numbers_of_float32_are_evaluated():
    """DeePMD-kit's compiled models refuse them; here positions, cell and parameters may be of any kind."""
    potential = parametric()
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]], cell=[5, 5, 5], pbc=True)
    wide = potential.evaluate(atoms, fparam=np.array([0.5, -1.0]), aparam=np.array([[0.25], [0.5]]))
    atoms.positions = atoms.positions.astype(np.float32)
    single = potential.evaluate(
        atoms, fparam=np.array([0.5, -1.0], np.float32), aparam=np.array([[0.25], [0.5]], np.float32)
    )
    np.testing.assert_array_equal(single.forces, wide.forces)
    frame = Frame(
        positions=atoms.positions.astype(np.float32),
        types=np.array([0, 1]),
        cell=np.eye(3, dtype=np.float32) * 5,
        pbc=(True,) * 3,
        source="single",
    )
    np.testing.assert_array_equal(
        potential.evaluate(frame, fparam=[0.5, -1.0], aparam=[[0.25], [0.5]]).forces, wide.forces
    )


def test_stress_is_symmetric_whatever_the_virial_is():
    """ASE's six numbers hold a symmetric tensor: rounding in the virial must not show in them."""
    virial = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    one, other = (
        Evaluation(0.0, np.zeros(1), np.zeros((1, 3)), w, volume=2.0, virials=w[None])
        for w in (virial, virial.T)
    )
    np.testing.assert_array_equal(one.stress, other.stress)
    np.testing.assert_array_equal(one.stress, [-0.5, -2.5, -4.5, -3.5, -2.5, -1.5])
    np.testing.assert_array_equal(one.stresses, other.stresses)
