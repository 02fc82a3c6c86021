"""`dpax convert-data` and `dpax neighbor-stat` as a user types them."""

import sys

import numpy as np
import pytest
from ase.build import molecule
from typer.testing import CliRunner, Result

from cli.commands import dpax
from data.builders import random_frame, write_hdf5, write_system
from data.test_formats import assert_same, read_all
from data.test_labels import dump, vasprun
from dpax.cli.app import app
from dpax.data import Reading, open_systems, write_extxyz
from dpax.data.dpdata_io import DpdataSystem
from dpax.errors import InputError

NAMES = ("H", "O")


def run(*arguments: object) -> Result:
    """Run the command line in this process: starting Python takes longer than any of these commands."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None, done.output
    return done


def mistake(*arguments: object) -> str:
    """The message of a mistake."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


@pytest.fixture
def frames(tmp_path):
    made = [random_frame(3 + k % 2, seed=k, periodic=k % 3 > 0, rare=True) for k in range(5)]
    write_extxyz(tmp_path / "data.xyz", made, NAMES)
    return made


def test_there_and_back(tmp_path, frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dpax("convert-data", "data.xyz", "-o", "folders")
    assert "5 frames of H O written, with energy, forces, virial" in done.stdout
    run("convert-data", "folders", "-o", "all.h5", "-t", *NAMES)
    run("convert-data", "all.h5", "-o", "mixed", "--format", "mixed")
    run("convert-data", "mixed", "-o", "back.extxyz")
    for path in ("folders", "all.h5", "mixed", "back.extxyz"):
        assert_same(read_all(path, NAMES), frames)
    assert not list(tmp_path.glob("*.part"))


def test_mistakes_write_nothing(tmp_path, frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.h5").write_text("precious")
    assert "there.h5 exists already" in mistake("convert-data", "data.xyz", "-o", "there.h5")
    assert (tmp_path / "there.h5").read_text() == "precious"
    assert "not clear from its suffix; give --format" in mistake("convert-data", "data.xyz", "-o", "a.db")
    assert "no data found at 'no.xyz'" in mistake("convert-data", "no.xyz", "-o", "out")
    assert "does not exist" in mistake("convert-data", "data.xyz", "-o", "none/out")
    write_system(tmp_path / "nameless", type_map=None)
    assert "no names for its types" in mistake("convert-data", "nameless", "-o", "out")
    write_system(tmp_path / "copied")
    np.save(tmp_path / "copied/set.000/numb_copy.npy", np.array([1, 2, 1, 1]))
    assert "numb_copy.npy" in mistake("convert-data", "copied", "-o", "out.xyz")
    force = np.load(tmp_path / "copied/set.000/force.npy")
    force[2, 1] = np.nan
    np.save(tmp_path / "copied/set.000/force.npy", force)
    assert "force.npy: frame 2" in mistake("convert-data", "copied", "-o", "out")
    assert "contains H" in mistake("convert-data", "copied", "-o", "out", "-t", "O", "C")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copied", "data.xyz", "nameless", "there.h5"]


def test_the_copies_of_frames_are_kept(tmp_path):
    write_system(tmp_path / "s")
    np.save(tmp_path / "s/set.000/numb_copy.npy", np.array([1, 2, 0, 1]))
    run("convert-data", tmp_path / "s", "-o", tmp_path / "out.h5")
    (system,) = open_systems(str(tmp_path / "out.h5"), ("O", "H"))
    assert system.copies is not None
    assert system.copies.tolist() == [1, 2, 0, 1]


POSCAR = """water in a box
1.0
9.0 0.0 0.0
0.0 9.5 0.0
0.5 0.0 10.0
O H
1 2
Cartesian
0.0 0.0 0.1192620
0.0 0.7632390 -0.4770470
0.0 -0.7632390 -0.4770470
"""


def test_through_dpdata(tmp_path, monkeypatch):
    pytest.importorskip("dpdata")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "POSCAR").write_text(POSCAR)
    run("convert-data", "POSCAR", "-o", "out", "--dpdata-format", "vasp/poscar")
    (frame,) = read_all("out", ("O", "H"))
    assert sorted(frame.types.tolist()) == [0, 1, 1]
    oxygen = frame.positions[frame.types == 0]
    np.testing.assert_allclose(oxygen, [[0, 0, 0.119262]], atol=1e-12)
    assert "cannot be read by dpdata as no/such" in mistake(
        "convert-data", "POSCAR", "-o", "x", "--dpdata-format", "no/such"
    )
    # A labelled system: what dpdata itself wrote.
    write_system(tmp_path / "s", frames=3)
    run("convert-data", "s", "-o", "again", "--dpdata-format", "deepmd/npy", "-t", "O", "H")
    ours, theirs = read_all("again", ("O", "H")), read_all("s", ("O", "H"))
    for frame, other in zip(ours, theirs, strict=True):
        assert frame.energy == other.energy
        assert np.array_equal(frame.forces, other.forces)
        assert np.array_equal(frame.virial, other.virial)


def test_without_dpdata_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dpdata", None)
    with pytest.raises(InputError, match=r"pip install 'dpax\[dpdata\]'"):
        DpdataSystem(tmp_path, "vasp/poscar")


def test_neighbor_stat_prints_what_deepmd_kit_prints(tmp_path):
    write_system(tmp_path / "s", types=(0, 1, 1, 1), sets=2)
    write_hdf5(tmp_path / "s.h5", {"s": tmp_path / "s"})
    theirs = pytest.importorskip("deepmd.entrypoints.neighbor_stat").neighbor_stat(
        system=str(tmp_path / "s"), rcut=5.0, type_map=["O", "H"], backend="numpy"
    )
    for path in (tmp_path / "s", tmp_path / "s.h5"):
        done = run("neighbor-stat", "-s", path, "-r", 5.0, "-t", "O", "H")
        assert done.stdout.splitlines() == [f"min_nbor_dist: {theirs[0]:f}", f"max_nbor_size: {theirs[1]}"]
    done = run("neighbor-stat", "-s", tmp_path / "s", "-r", 5.0, "--mixed-type")
    assert done.stdout.splitlines()[0] == "type_map: H O"


def test_neighbor_stat_warns_of_lonely_atoms(tmp_path):
    gas = molecule("H2")
    gas.positions *= 20
    gas.write(tmp_path / "gas.xyz")
    done = run("neighbor-stat", "-s", tmp_path / "gas.xyz", "-r", 3.0)
    assert "no atom has a neighbour within 3 Å" in done.stderr
    assert "max_nbor_size: [0]" in done.stdout


def write_xyz(path, header="", columns=":REF_forces:R:3"):
    path.write_text(
        f'2\nLattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3{columns} {header} pbc="T T T"\n'
        "Cu 0 0 0 0.1 0 0\nCu 2.5 0 0 -0.1 0 0\n"
    )


def test_labels_by_other_names_are_not_left_behind_in_silence(tmp_path):
    write_xyz(tmp_path / "ref.xyz", "REF_energy=-3.5 config_type=bulk")
    done = run("convert-data", tmp_path / "ref.xyz", "-o", tmp_path / "bare")
    assert "REF_energy is not read" in done.stderr
    assert "--keys forces=REF_forces" in done.stderr
    assert "config_type" not in done.stderr
    assert "without labels" in done.stdout
    keys = ("--keys", "energy=REF_energy", "forces=REF_forces")
    done = run("convert-data", tmp_path / "ref.xyz", "-o", tmp_path / "out", *keys)
    assert done.stderr == ""
    (frame,) = read_all(tmp_path / "out", ("Cu",))
    assert frame.energy == -3.5
    assert frame.forces[0, 0] == 0.1
    assert "expected QUANTITY=KEY" in mistake(
        "convert-data", tmp_path / "ref.xyz", "-o", "x", "--keys", "energy"
    )


def test_types_of_lammps_are_named_by_the_type_map(tmp_path):
    dump(tmp_path / "a.lammpstrj")
    assert "--type-map" in mistake("convert-data", tmp_path / "a.lammpstrj", "-o", tmp_path / "out")
    run("convert-data", tmp_path / "a.lammpstrj", "-o", tmp_path / "out", "--type-map", "Cu", "Ag")
    (frame,) = read_all(tmp_path / "out", ("Ag", "Cu"))
    assert sorted(frame.types.tolist()) == [0, 1]
    assert frame.energy is None


def test_frames_that_did_not_converge(tmp_path):
    vasprun(tmp_path / "vasprun.xml", [2, 4])
    with pytest.warns(UserWarning, match="1 of 2 frames did not converge"):
        done = run("convert-data", tmp_path / "vasprun.xml", "-o", tmp_path / "out")
    assert "1 frames of Cu" in done.stdout
    done = run("convert-data", tmp_path / "vasprun.xml", "-o", tmp_path / "all", "--keep-unconverged")
    assert "2 frames of Cu" in done.stdout


def test_all_frames_count_where_no_label_is_read(tmp_path):
    vasprun(tmp_path / "vasprun.xml", [4, 4])
    done = run("neighbor-stat", "-s", tmp_path / "vasprun.xml", "-r", 6)
    assert "min_nbor_dist" in done.stdout
    assert "converge" not in done.stderr
    done = run("convert-data", tmp_path / "vasprun.xml", "-o", tmp_path / "all", "--keep-unconverged")
    assert done.stderr == ""


def test_keys_do_not_go_with_dpdata(tmp_path):
    arguments = (
        "convert-data",
        "a",
        "-o",
        tmp_path / "b",
        "--dpdata-format",
        "vasp/xml",
        "--keys",
        "energy=E",
    )
    assert "--keys is for files that ASE reads" in mistake(*arguments)


def test_convergence_is_looked_at_in_what_dpdata_reads(tmp_path):
    pytest.importorskip("dpdata")
    vasprun(tmp_path / "vasprun.xml", [2, 4])
    with pytest.warns(UserWarning, match="1 of 2 frames did not converge"):
        system = DpdataSystem(tmp_path / "vasprun.xml", "vasp/xml")
    assert len(system) == 1
    assert len(DpdataSystem(tmp_path / "vasprun.xml", "vasp/xml", Reading(keep_unconverged=True))) == 2
