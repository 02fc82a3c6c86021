"""Structures from ASE: labels in every spelling, periodicity, and mistakes."""

import bz2
import gzip
import lzma
import re

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from dpax.data import AseSystem, frame_from_atoms
from dpax.errors import InputError


def copper(n=3, pbc=True, seed=0):
    """Rattled copper with energy, forces and stress of ASE's EMT."""
    structures = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        atoms.rattle(0.1, seed=seed + k)
        atoms.pbc = pbc
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if np.all(pbc):
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        structures.append(atoms)
    return structures


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.traj", "a.json", "a.db"])
def test_all_frames_of_a_file_with_their_labels(tmp_path, name):
    structures = copper()
    if name.endswith((".db", ".json")):
        with ase.db.connect(tmp_path / name) as db:
            for atoms in structures:
                db.write(atoms)
    else:
        ase.io.write(tmp_path / name, structures)
    system = AseSystem(tmp_path / name, ("H", "Cu"), name=name)
    assert len(system) == 3
    assert system.labels == {"energy", "forces", "virial"}
    for index, atoms in enumerate(structures):
        frame = system.frame(index)
        assert frame.source == f"{name} frame {index}"
        assert np.array_equal(frame.types, [1, 1, 1, 1])
        assert frame.pbc == (True, True, True)
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-6)
        np.testing.assert_allclose(frame.cell, atoms.cell.array, atol=1e-6)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(
            frame.virial, -atoms.get_stress(voigt=False) * atoms.get_volume(), atol=1e-5
        )


def test_the_virial_is_minus_the_energy_derivative_with_respect_to_strain():
    atoms = copper(1)[0]
    frame = frame_from_atoms(atoms, ("Cu",), labels=True)

    def energy(strain):
        deformed = ase.Atoms("Cu4", atoms.positions, cell=atoms.cell, pbc=True)
        deformed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        deformed.calc = EMT()
        return deformed.get_potential_energy()

    step = np.zeros((3, 3))
    step[0, 0] = 1e-4
    assert -(energy(step) - energy(-step)) / 2e-4 == pytest.approx(frame.virial[0, 0], rel=1e-4)


@pytest.mark.parametrize("forces", ["force", "forces"])
def test_extended_xyz_in_the_spelling_of_dpdata(tmp_path, forces):
    (tmp_path / "a.xyz").write_text(
        f'2\nLattice="5 0 0 0 6 0 0 0 7" Properties=species:S:1:pos:R:3:{forces}:R:3 energy=-3.5 '
        'virial="1 2 3 2 5 6 3 6 9" pbc="T T T"\n'
        "H 0.0 0.0 0.0 1.0 2.0 3.0\nO 0.0 0.0 1.0 -1.0 -2.0 -3.5\n"
    )
    frame = AseSystem(tmp_path / "a.xyz", ("O", "H")).frame(0)
    assert frame.energy == -3.5
    assert np.array_equal(frame.virial, [[1, 2, 3], [2, 5, 6], [3, 6, 9]])
    assert np.array_equal(frame.forces, [[1, 2, 3], [-1, -2, -3.5]])
    assert np.array_equal(frame.types, [1, 0])


def test_frames_may_differ_in_size_labels_and_periodicity(tmp_path):
    water = molecule("H2O")
    slab = copper(1, pbc=(True, True, False))[0]
    ase.io.write(tmp_path / "a.extxyz", [water, *copper(1), slab])
    system = AseSystem(tmp_path / "a.extxyz", ("H", "O", "Cu"))
    assert [system.n_atoms(k) for k in range(3)] == [3, 4, 4]
    free, crystal, surface = (system.frame(k) for k in range(3))
    assert free.cell is None
    assert free.energy is None
    assert free.forces is None
    assert crystal.virial is not None
    assert surface.virial is None
    assert surface.energy is not None
    assert surface.pbc == (True, True, False)


def test_the_energy_whose_derivative_the_forces_are_is_preferred():
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-10.0, free_energy=-10.5, energies=[-3.0, -3.0, -4.0])
    frame = frame_from_atoms(atoms, ("H", "O"), labels=True)
    assert frame.energy == -10.5
    assert np.array_equal(frame.atom_energies, [-3, -3, -4])


def test_constraints_do_not_zero_forces():
    atoms = copper(1)[0]
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    assert not atoms.get_forces().any()
    assert frame_from_atoms(atoms, ("Cu",), labels=True).forces.any()


def test_a_calculator_is_neither_asked_nor_read_without_labels():
    class Explosive(EMT):
        def calculate(self, *args, **kwargs):
            raise AssertionError("the calculator was called")

    atoms = bulk("Cu")
    atoms.calc = Explosive()
    assert frame_from_atoms(atoms, ("Cu",)).energy is None
    assert frame_from_atoms(atoms, ("Cu",), labels=True).energy is None
    assert frame_from_atoms(copper(1)[0], ("Cu",)).energy is None


def test_the_frame_does_not_share_memory_with_the_atoms():
    atoms = molecule("H2O")
    frame = frame_from_atoms(atoms, ("H", "O"))
    atoms.positions += 1.0
    assert not np.array_equal(frame.positions, atoms.positions)


def test_an_unknown_element_is_named_with_the_type_map():
    with pytest.raises(InputError, match=r"^structure: contains H, which the model's type_map \['O', 'C'\]"):
        frame_from_atoms(molecule("H2O"), ("O", "C"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["a.xyz"]),
        ("not a structure\nat all\n", ["a.xyz", "cannot be read by ASE"]),
        (
            "3\nProperties=species:S:1:pos:R:3\nH 0 0 0\n",
            ["a.xyz frame 0", "3 atoms, but only 1 lines"],
        ),
        ("99999999999999\n\nH 0 0 0\n", ["a.xyz frame 0", "99999999999999 atoms, but only 1 lines follow"]),
        ("9" * 4000 + "\n\nH 0 0 0\n", ["a.xyz frame 0", "atoms, but only 1 lines follow"]),
        ("-1\n\nH 0 0 0\n", ["a.xyz frame 0", "declares -1 atoms"]),
        ("1\n\nH 0 0 0\n2000000000\n\nH 0 0 0\n", ["a.xyz frame 1", "2000000000 atoms, but only 1 lines"]),
        ("1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n", ["a.xyz: there is an empty line between two frames"]),
        ("1\nProperties=species:S:1:pos:R:999999999\nH 0 0 0\n", ["a.xyz frame 0", "100000 columns"]),
        ("1\nProperties=Z:I:1:pos:R:3\n300 0 0 0\n", ["a.xyz frame 0", "atomic number 300"]),
        ("1\nProperties=Z:I:1:pos:R:3\n-1 0 0 0\n", ["a.xyz frame 0", "atomic number -1"]),
        ("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n", ["a.xyz frame 0", "energy is nan"]),
        (
            '1\nProperties=species:S:1:pos:R:3 energy="no"\nH 0 0 0\n',
            ["a.xyz frame 0: energy is 'no'", "expected numbers"],
        ),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 nan 0\n", ["a.xyz frame 0", "positions", "NaN"]),
        ('1\nProperties=species:S:1:pos:R:3 pbc="T T T"\nH 0 0 0\n', ["a.xyz frame 0", "zero volume"]),
        (
            '1\nProperties=species:S:1:pos:R:3 virials="1 2 3"\nH 0 0 0\n',
            ["a.xyz frame 0: virials", "[3, 3]"],
        ),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError) as caught:
        AseSystem(tmp_path / "a.xyz", ("H",), name="a.xyz")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["POSCAR.xyz", "OUTCAR_12.extxyz", "vasprun.xml.xyz", "log.lammps.xyz"])
def test_what_is_called_xyz_is_xyz(tmp_path, name):
    """ASE goes by the beginning of a name first, which says where a structure comes from."""
    (tmp_path / name).write_text("1\nProperties=species:S:1:pos:R:3 energy=-2.5\nH 0 0 0\n")
    assert AseSystem(tmp_path / name, ("H",)).frame(0).energy == -2.5


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_an_absurd_number_of_atoms_in_a_compressed_file(tmp_path, suffix):
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix]
    path = tmp_path / f"a.xyz.{suffix}"
    path.write_bytes(pack(b"99999999999999\n\nH 0 0 0\n"))
    with pytest.raises(InputError, match=r"a.xyz.* frame 0: declares 99999999999999 atoms"):
        AseSystem(path, ("H",))
    path.write_bytes(pack(b"1\n\nH 0 0 0\n")[:-9])
    with pytest.raises(InputError, match="cannot be decompressed"):
        AseSystem(path, ("H",))


def test_lattice_vectors_behind_the_atoms_are_no_frames(tmp_path):
    """A form of XYZ that ASE reads: three lines VEC1 ... after the atoms."""
    frame = "2\n\nH 0 0 0\nH 0 0 1\nVEC1 3 0 0\nVEC2 0 3 0\nVEC3 0 0 3\n"
    (tmp_path / "a.xyz").write_text(frame * 2)
    assert len(AseSystem(tmp_path / "a.xyz", ("H",))) == 2


def test_parameters_come_with_any_structure_and_rare_labels_with_the_labels():
    atoms = molecule("H2O")
    atoms.info |= {"fparam": 300.0, "hessian": np.eye(9), "drdq": np.ones(9)}
    atoms.arrays["aparam"] = np.array([1, 2, 3])
    atoms.arrays["atom_pref"] = np.array([0.5, 1.0, 1.5])
    atoms.arrays["atom_ener_coeff"] = np.ones(3)
    bare = frame_from_atoms(atoms, ("H", "O"))
    assert bare.fparam.tolist() == [300.0]
    assert bare.aparam.tolist() == [[1.0], [2.0], [3.0]]
    assert bare.hessian is bare.drdq is bare.atom_pref is bare.atom_ener_coeff is None
    frame = frame_from_atoms(atoms, ("H", "O"), labels=True)
    assert np.array_equal(frame.hessian, np.eye(9))
    assert frame.drdq.shape == (9, 1)
    assert frame.atom_pref.tolist() == [0.5, 1.0, 1.5]
    assert frame.atom_ener_coeff.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fparam", "hot", "expected numbers"),
        ("hessian", np.ones(80), r"of 80 values, expected numbers in the shape \[9, 9\]"),
        ("drdq", np.ones(10), r"expected numbers in the shape \[9, 'any'\]"),
        ("fparam", [1.0, np.nan], "fparam holds NaN"),
    ],
)
def test_parameters_and_labels_of_a_wrong_shape_are_named(name, value, words):
    atoms = molecule("H2O")
    atoms.info[name] = value
    with pytest.raises(InputError, match=rf"frame 4: {name}.*|frame 4: .*{words}") as caught:
        frame_from_atoms(atoms, ("H", "O"), "frame 4", labels=True)
    assert re.search(words, str(caught.value))
