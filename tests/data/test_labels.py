"""Labels are what they claim to be: units, convergence, contradictions, and names that are not read."""

import bz2
import gzip
import importlib.util
import re
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units

from dpax.data import AseSystem, Reading, frame_from_atoms, open_systems
from dpax.data.convergence import unconverged
from dpax.data.label_keys import look_alikes, parsed_keys, quantity_of
from dpax.data.structure_files import iterate_structures
from dpax.errors import InputError
from dpax.simulate.structure import read_structure

from .builders import write_hdf5, write_system

ATOMS = "Cu 0 0 0 0.01 0 0\nCu 2.5 0 0 -0.01 0 0\n"


def extxyz(path: Path, header: str, rows: str = ATOMS, columns: str = ":forces:R:3") -> Path:
    cell = 'Lattice="6 0 0 0 6 0 0 0 6" pbc="T T T"'
    path.write_text(f"2\n{cell} Properties=species:S:1:pos:R:3{columns} {header}\n{rows}")
    return path


# Units


@pytest.mark.parametrize(
    ("header", "energy", "force"),
    [
        ("energy-unit=hartree force-unit=hartree/bohr", units.Hartree, units.Hartree / units.Bohr),
        ("energy_unit=Ha forces_unit=Ha/a0", units.Hartree, units.Hartree / units.Bohr),
        ("Energy_Units=kcal/mol Forces_Units=kcal/mol/A", units.kcal / units.mol, units.kcal / units.mol),
        ("energy-unit=kJ/mol force-unit=kJ/mol/nm", units.kJ / units.mol, units.kJ / units.mol / units.nm),
        ("energy-unit=Ry force-unit=Ry/bohr", units.Rydberg, units.Rydberg / units.Bohr),
        ("energy-unit=a.u. force-unit=a.u.", units.Hartree, units.Hartree / units.Bohr),
        ("unit_of_energy=meV unit_of_forces=meV/angstrom", 1e-3, 1e-3),
        ("energy-unit=eV force-unit=eV/Å", 1.0, 1.0),
        ("units=metal", 1.0, 1.0),
        ("time_unit=ps", 1.0, 1.0),
        ("unit_cell=conventional formula_units=4", 1.0, 1.0),
    ],
)
def test_declared_units_are_honoured(tmp_path, header, energy, force):
    frame = AseSystem(extxyz(tmp_path / "a.xyz", f"energy=-0.5 {header}"), ("Cu",)).frame(0)
    assert frame.energy == pytest.approx(-0.5 * energy, rel=1e-6)
    assert frame.forces[0, 0] == pytest.approx(0.01 * force, rel=1e-6)


@pytest.mark.parametrize(
    ("header", "keys", "energy"),
    [
        ("energy=-10 energy_unit=eV ref_energy=-0.4 ref_energy_unit=Ha", {}, -10.0),
        ("ref_energy_unit=Ha ref_energy=-0.4 energy=-10", {}, -10.0),
        ("energy=-10 energy_unit=eV ref_energy=-0.4 ref_energy_unit=Ha", "ref_energy", -0.4 * units.Ha),
        ("wB97X_energy=-1 wB97X_energy_unit=Hartree", "wB97X_energy", -units.Ha),
        ("wB97X_energy=-1 energy_unit=Hartree", "wB97X_energy", -units.Ha),
        ("wB97X_energy=-1 energy=-9 energy_unit=Hartree", "wB97X_energy", -units.Ha),
        ("Vasp_energy=-1 Vasp_energy_unit=Ha", "Vasp_energy", -units.Ha),
        ("energy=-1 total_energy_unit=Ha", {}, -units.Ha),
    ],
)
def test_a_unit_is_that_of_its_own_label(tmp_path, header, keys, energy):
    path = extxyz(tmp_path / "a.xyz", header, rows="Cu 0 0 0\nCu 2.5 0 0\n", columns="")
    reading = Reading({"energy": keys} if keys else {})
    assert AseSystem(path, ("Cu",), reading=reading).frame(0).energy == pytest.approx(energy, rel=1e-6)


@pytest.mark.parametrize("unit", ["kcal", "J/percent", "eV/furlong", "kJ", "MeV", "watt"])
def test_units_of_other_things_are_refused(tmp_path, unit):
    with pytest.raises(InputError, match="is no unit of energy that dpax knows"):
        AseSystem(extxyz(tmp_path / "a.xyz", f"energy=-1 energy_unit={unit} force_unit=eV/A"), ("Cu",))


@pytest.mark.parametrize("unit", ["Ry/au", "Ry/a0", "rydberg/bohr"])
def test_the_atomic_unit_of_length_is_not_the_astronomical_one(tmp_path, unit):
    path = extxyz(tmp_path / "a.xyz", f"energy=-1 energy_unit=Ry force_unit={unit}")
    assert AseSystem(path, ("Cu",)).frame(0).forces[0, 0] == pytest.approx(
        0.01 * units.Ry / units.Bohr, rel=1e-6
    )


@pytest.mark.parametrize(
    "header",
    [
        "unit_energy=Ha unit_forces=Ha/bohr",
        "unitEnergy=Ha unitForces=Ha/bohr",
        "energy:unit=Ha force.unit=Ha/bohr",
    ],
)
def test_other_ways_to_declare_a_unit(tmp_path, header):
    frame = AseSystem(extxyz(tmp_path / "a.xyz", f"energy=-0.5 {header}"), ("Cu",)).frame(0)
    assert frame.energy == pytest.approx(-0.5 * units.Ha, rel=1e-6)


@pytest.mark.parametrize("key", ["energy_unit_eV", "pressure_unit", "UNITS_FORCES_OUT"])
def test_what_looks_like_a_unit_is_not_passed_over(tmp_path, key):
    with pytest.raises(InputError, match="looks like a unit and is not understood"):
        AseSystem(extxyz(tmp_path / "a.xyz", f"energy=-0.5 {key}=kbar"), ("Cu",))


@pytest.mark.parametrize("first", [0, 1])
def test_units_that_some_frames_lack_are_refused(tmp_path, first):
    headers = ["energy=-1 energy_unit=Ha force_unit=Ha/bohr", "energy=-1"]
    text = "".join(extxyz(tmp_path / "one.xyz", headers[(first + n) % 2]).read_text() for n in range(2))
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(
        InputError, match=rf"frame {first} declares units and frame {1 - first} declares none"
    ):
        AseSystem(tmp_path / "a.xyz", ("Cu",))


def test_units_that_contradict_each_other_are_refused(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "energy=-1 energy_unit=Ha unit_of_energy=eV")
    with pytest.raises(InputError, match=r"unit_of_energy=eV contradicts another unit of energy"):
        AseSystem(path, ("Cu",))


def test_structures_are_read_without_labels_but_with_those_of_other_names(tmp_path):
    """`dpax eval` writes its own energies beside them, and their units must be those of the numbers."""
    header = 'energy=-1 energy_unit=Ha virial="1 0 0 0 1 0 0 0 1" REF_energy=-0.4 REF_energy_unit=Ha'
    (atoms,) = iterate_structures(extxyz(tmp_path / "a.xyz", header), "a.xyz")
    assert atoms.calc is None
    assert atoms.info == {"REF_energy": -0.4, "REF_energy_unit": "Ha"}
    assert set(atoms.arrays) == {"numbers", "positions"}


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_data_bases_of_ase_have_their_keys(tmp_path, name):
    """ASE's own reader leaves them out."""
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], cell=[6, 6, 6], pbc=True)
    with ase.db.connect(tmp_path / name) as base:
        base.write(atoms, ref_energy=-1.5, converged=True)
        base.write(atoms, ref_energy=-2.5, converged=False)
    with pytest.warns(UserWarning, match="1 of 2 frames did not converge"):
        system = AseSystem(tmp_path / name, ("Cu",), reading=Reading({"energy": "ref_energy"}))
    assert [frame.energy for frame in system._frames] == [-1.5]
    with pytest.warns(UserWarning, match="did not converge"):
        assert AseSystem(tmp_path / name, ("Cu",)).unread == {"energy": ["ref_energy"]}
    for index, symbols in ((0, ["Cu", "Cu"]), (-1, ["Cu", "Cu"])):
        (one,) = iterate_structures(tmp_path / name, name, index)
        assert list(one.symbols) == symbols
    assert list(iterate_structures(tmp_path / name, name, 2)) == []


@pytest.mark.parametrize("unit", ["GPa", "kbar", "kB", "eV/Å^3", "hartree/bohr**3"])
def test_a_stress_in_any_unit_is_the_same_virial(tmp_path, unit):
    factor = {
        "GPa": units.GPa,
        "kbar": 1e3 * units.bar,
        "kB": 1e3 * units.bar,
        "eV/Å^3": 1.0,
        "hartree/bohr**3": units.Hartree / units.Bohr**3,
    }[unit]
    stress = " ".join(str(s / factor) for s in (0.01, 0, 0, 0, 0.02, 0, 0, 0, 0.03))
    path = extxyz(
        tmp_path / "a.xyz", f'energy=1 energy-unit=eV force-unit=eV/A stress="{stress}" stress-unit={unit}'
    )
    virial = AseSystem(path, ("Cu",)).frame(0).virial
    np.testing.assert_allclose(np.diag(virial), [-2.16, -4.32, -6.48], rtol=1e-6)


def test_a_virial_has_the_unit_of_the_energy_or_its_own(tmp_path):
    header = 'energy=1 energy-unit=hartree force-unit=hartree/bohr virial="1 0 0 0 1 0 0 0 1"'
    frame = AseSystem(extxyz(tmp_path / "a.xyz", header), ("Cu",)).frame(0)
    assert frame.virial[0, 0] == pytest.approx(units.Hartree, rel=1e-6)
    frame = AseSystem(extxyz(tmp_path / "a.xyz", f"{header} virial-unit=eV"), ("Cu",)).frame(0)
    assert frame.virial[0, 0] == 1.0


def test_positions_in_bohr_become_angstrom_wherever_a_structure_is_read(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "energy=1 pos_unit=bohr")
    frame = AseSystem(path, ("Cu",)).frame(0)
    assert frame.positions[1, 0] == pytest.approx(2.5 * units.Bohr)
    assert frame.cell[0, 0] == pytest.approx(6 * units.Bohr)
    atoms = read_structure(path)
    assert atoms.positions[1, 0] == pytest.approx(2.5 * units.Bohr)
    assert not [key for key in atoms.info if "unit" in key], "what is written next is in Å"
    with pytest.raises(InputError, match="another unit than Å"):
        frame_from_atoms(ase.io.read(path), ("Cu",))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("energy-unit=banana", "energy-unit=banana is no unit of energy"),
        ("energy-unit=hartree/bohr", "is no unit of energy"),
        ("force-unit=eV", "is no unit of forces"),
        ("force-unit=mole", "is no unit of forces"),
        ("pos_unit=eV", "is no unit of length"),
        ("units=real", "units=real does not name the quantity"),
        ("energy-unit=hartree", "declares a unit of energy, but none of forces"),
        ("force-unit=hartree/bohr", "declares a unit of forces, but none of energy"),
    ],
)
def test_units_that_are_not_clear_are_refused(tmp_path, header, words):
    path = extxyz(tmp_path / "a.xyz", f"energy=-0.5 {header}")
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        AseSystem(path, ("Cu",), "a.xyz")
    assert "a.xyz" in str(caught.value)


# Contradictions


def test_a_virial_that_contradicts_the_stress_is_named_with_it(tmp_path):
    good = 'stress="0.01 0 0 0 0.02 0 0 0 0.03" virial="-2.16 0 0 0 -4.32 0 0 0 -6.48"'
    frame = AseSystem(extxyz(tmp_path / "a.xyz", f"energy=1 {good}"), ("Cu",)).frame(0)
    np.testing.assert_allclose(np.diag(frame.virial), [-2.16, -4.32, -6.48])
    for wrong, words in ((good.replace("-", ""), "opposite sign"), (good.replace("-2.16", "-3"), "-3 eV")):
        path = extxyz(tmp_path / "a.xyz", f"energy=1 {wrong}")
        with pytest.raises(InputError, match=f"virial and its stress contradict each other.*{words}"):
            AseSystem(path, ("Cu",))
    for key, expected in (("virial", -3.0), ("stress", -2.16)):
        frame = AseSystem(path, ("Cu",), reading=Reading({key: key})).frame(0)
        assert frame.virial[0, 0] == pytest.approx(expected)


def test_two_spellings_of_a_label_must_agree(tmp_path):
    rows = "Cu 0 0 0 1 0 0 {0} 0 0\nCu 2.5 0 0 -1 0 0 -1 0 0\n"
    columns = ":force:R:3:forces:R:3"
    same = extxyz(tmp_path / "a.xyz", "energy=1", rows.format(1), columns)
    assert AseSystem(same, ("Cu",)).frame(0).forces[0, 0] == 1
    differs = extxyz(tmp_path / "b.xyz", "energy=1", rows.format(2), columns)
    with pytest.raises(InputError, match="forces and force both mean the forces and differ by 1"):
        AseSystem(differs, ("Cu",))


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (":forces:R:2", "Cu 0 0 0 1 0\nCu 2.5 0 0 -1 0\n"),
        (":forces:R:6", "Cu 0 0 0 1 0 0 1 0 0\nCu 1 0 0 1 0 0 1 0 0\n"),
    ],
)
def test_labels_of_another_shape_are_refused(tmp_path, columns, rows):
    with pytest.raises(InputError, match=r"forces"):
        AseSystem(extxyz(tmp_path / "a.xyz", "energy=1", rows, columns), ("Cu",))


# Names


@pytest.mark.parametrize(
    ("key", "quantity"),
    [
        *(
            (k, "energy")
            for k in ("REF_energy", "Energy", "dft_energy", "TotEnergy", "DFT-Energy", "energyRef", "TOTEN")
        ),
        *((k, "forces") for k in ("REF_forces", "forces_dft", "Forces", "dft_force", "Reference_forces")),
        *((k, "energy") for k in ("Vasp_energy", "REFenergy", "DFTenergy")),
        *((k, "virial") for k in ("REF_virials", "dft_virial")),
        ("REF_stress", "stress"),
        *(
            (k, None)
            for k in ("config_type", "formation_energy", "kinetic_energy", "E0", "enforced", "reference")
        ),
    ],
)
def test_keys_that_name_a_label(key, quantity):
    assert quantity_of(key) == quantity


def test_keys_that_look_somewhat_like_a_label_are_noticed():
    alike = look_alikes(["MACE_energy", "config_type", "dft_gradient", "stresses", "pbc"])
    assert alike == {"energy": ["MACE_energy"], "forces": ["dft_gradient"], "virial": ["stresses"]}


def test_labels_by_other_names(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "REF_energy=-3.5", columns=":REF_forces:R:3")
    system = AseSystem(path, ("Cu",))
    assert not system.labels
    assert system.unread == {"energy": ["REF_energy"], "forces": ["REF_forces"]}
    keys = parsed_keys(["energy=REF_energy", "forces=REF_forces"])
    system = AseSystem(path, ("Cu",), reading=Reading(keys))
    assert system.labels == {"energy", "forces"}
    assert not system.unread
    assert system.frame(0).energy == -3.5
    assert system.frame(0).forces[1, 0] == -0.01


def test_a_named_key_takes_the_place_of_the_usual_one(tmp_path):
    path = extxyz(tmp_path / "a.xyz", "energy=-1 dft_energy=-2 energy_unit=hartree force_unit=hartree/bohr")
    assert AseSystem(path, ("Cu",)).unread == {"energy": ["dft_energy"]}
    named = AseSystem(path, ("Cu",), reading=Reading({"energy": "dft_energy"})).frame(0)
    assert named.energy == pytest.approx(-2 * units.Hartree), "units count for it too"
    with pytest.raises(InputError, match=r"no frame has the key 'nosuch'.*its keys are .*dft_energy"):
        AseSystem(path, ("Cu",), reading=Reading({"energy": "nosuch"}))


@pytest.mark.parametrize(
    "text", ["energy", "=a", "energy=", "power=P", "charge=q", "virial=REF_stress", "energy=dft_forces"]
)
def test_keys_of_another_form_are_refused(text):
    with pytest.raises(InputError, match="--keys"):
        parsed_keys([text])


def test_arrays_of_other_names_in_deepmd_kits_layout(tmp_path):
    write_system(tmp_path / "s")
    np.save(tmp_path / "s/set.000/energies.npy", np.zeros(4))
    np.save(tmp_path / "s/set.000/dipole.npy", np.zeros((4, 3)))
    write_hdf5(tmp_path / "s.h5", {"s": tmp_path / "s"})
    for path in (tmp_path / "s", tmp_path / "s.h5"):
        (system,) = open_systems(str(path), ("O", "H"))
        assert system.unread == {"atom_energies": ["energies.npy"]}


# Convergence

VASPRUN = """<?xml version="1.0"?><modeling><incar><i type="int" name="NELM">{nelm}</i></incar>
<kpoints><generation param="Monkhorst-Pack"><v type="int" name="divisions">1 1 1</v></generation></kpoints>
<parameters><separator name="electronic"><i type="int" name="NELM">{nelm}</i></separator></parameters>
<atominfo><atoms>1</atoms><types>1</types><array name="atoms"><dimension dim="1">ion</dimension>
<field type="string">element</field><field type="int">atomtype</field>
<set><rc><c>Cu</c><c>1</c></rc></set></array>
</atominfo>
<structure name="initialpos"><crystal><varray name="basis"><v>6 0 0</v><v>0 6 0</v><v>0 0 6</v></varray>
</crystal><varray name="positions"><v>0 0 0</v></varray></structure>{steps}</modeling>"""
ENERGIES = "".join(f'<i name="{name}">{{0}}</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
STEP = f"""<calculation>{{loop}}
<structure><crystal><varray name="basis"><v>6 0 0</v><v>0 6 0</v><v>0 0 6</v></varray>
</crystal><varray name="positions"><v>0 0 0</v></varray></structure>
<varray name="forces"><v>0.1 0 0</v></varray>
<energy>{ENERGIES}</energy></calculation>"""


def vasprun(path: Path, loops: list[int], nelm: int = 4) -> Path:
    """A file of ionic steps with so many electronic steps each, and the energies 0, 1, ..."""
    scf = f"<scstep><energy>{ENERGIES}</energy></scstep>"
    steps = "".join(STEP.replace("{loop}", n * scf).format(number) for number, n in enumerate(loops))
    path.write_text(VASPRUN.format(nelm=nelm, steps=steps))
    return path


def test_steps_of_vasprun_that_ran_out_of_iterations_are_left_out(tmp_path):
    path = vasprun(tmp_path / "vasprun.xml", [2, 4, 3, 4])
    with pytest.warns(UserWarning, match=r"vasprun.xml: 2 of 4 frames did not converge.*\(1, 3, from 0\)"):
        system = AseSystem(path, ("Cu",))
    assert [system.frame(k).energy for k in range(len(system))] == [0, 2]
    assert [system.frame(k).source[-7:] for k in range(len(system))] == ["frame 0", "frame 2"]
    assert len(AseSystem(path, ("Cu",), reading=Reading(keep_unconverged=True))) == 4
    with pytest.raises(InputError, match=r"no frame is left.*keep-unconverged"):
        AseSystem(vasprun(path, [4]), ("Cu",))


def outcar() -> str:
    """A complete OUTCAR of one ionic step that comes with ASE."""
    folder = importlib.util.find_spec("ase").submodule_search_locations[0]
    path = Path(folder) / "test/testdata/vasp/OUTCAR_example_1"
    if not path.exists():
        pytest.skip("this ASE comes without its test data")
    return path.read_text()


@pytest.mark.parametrize(
    ("first", "second", "left_out"),
    [
        ("loop because EDIFF is reached", "loop EDIFF was not reached (unconverged)", [1]),
        ("loop EDIFF was not reached (unconverged)", "loop because EDIFF is reached", [0]),
        ("loop because EDIFF is reached", None, []),
    ],
)
def test_steps_of_an_outcar_that_did_not_converge_are_left_out(tmp_path, first, second, left_out):
    text = outcar()
    begin = text.index("Iteration    1(   1)")
    header, step = text[:begin], text[begin:]
    assert "aborting loop because EDIFF is reached" in step
    said = "" if second is None else f"aborting {second}"
    steps = [step.replace("aborting loop because EDIFF is reached", s) for s in (f"aborting {first}", said)]
    (tmp_path / "OUTCAR").write_text(header + "".join(steps))
    assert unconverged(tmp_path / "OUTCAR", "vasp-out", 2) == left_out
    (tmp_path / "few").write_text(re.sub(r"NELM   =    \d+", "NELM   =    3", header) + "".join(steps))
    # Without a word on how the loop ended, the number of its steps decides.
    assert unconverged(tmp_path / "few", "vasp-out", 2) == (left_out if second else [1])
    packed = tmp_path / "OUTCAR.bz2"
    packed.write_bytes(bz2.compress((tmp_path / "OUTCAR").read_bytes()))
    names = sorted(set(next(iterate_structures(packed, "OUTCAR.bz2")).symbols))
    if left_out:
        with pytest.warns(UserWarning, match="1 of 2 frames did not converge"):
            assert len(AseSystem(packed, names)) == 1
    else:
        assert len(AseSystem(packed, names)) == 2


GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Gaussian 16:  ES64L-G16RevC.01  3-Jul-2019
"""
GEOMETRY = """                         Standard orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          1           0        0.000000    0.000000    0.000000
      2          1           0        0.000000    0.000000    0.740000
 ---------------------------------------------------------------------
"""


def gaussian(path: Path, converged: list[bool], ending: str = "") -> Path:
    loops = "".join(
        GEOMETRY
        + ("" if good else " >>>>>>>>>> Convergence criterion not met.\n")
        + f" SCF Done:  E(RHF) =  -1.{number}     A.U. after    9 cycles\n"
        for number, good in enumerate(converged)
    )
    path.write_text(GAUSSIAN + loops + ending)
    return path


def test_loops_of_gaussian_that_did_not_converge_are_left_out(tmp_path):
    path = gaussian(tmp_path / "a.log", [True, False, True])
    with pytest.warns(UserWarning, match=r"1 of 3 frames did not converge.*\(1, from 0\)"):
        system = AseSystem(path, ("H",))
    assert [round(system.frame(k).energy / units.Hartree, 3) for k in range(2)] == [-1.0, -1.2]
    assert len(AseSystem(gaussian(path, [True, True]), ("H",))) == 2
    with pytest.raises(InputError, match="no frame is left"):
        AseSystem(gaussian(path, [True], " Convergence failure -- run terminated.\n"), ("H",))


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (
            "espresso-out",
            "convergence has been achieved in 9 iterations",
            "convergence NOT achieved after 99 iterations",
        ),
        (
            "qe/pw/scf",
            "convergence has been achieved in 9 iterations",
            "convergence NOT achieved after 99 iterations",
        ),
        ("orca-output", "SCF CONVERGED AFTER 9 CYCLES", "SCF NOT CONVERGED AFTER 125 CYCLES"),
        ("gpaw-out", "Converged after 9 iterations.", "Did not converge!"),
        ("siesta/output", "SCF cycle converged after 9 iterations", "SCF_NOT_CONV: SCF did not converge"),
    ],
)
def test_what_codes_say_of_their_loops(tmp_path, form, good, bad):
    path = tmp_path / "out"
    path.write_text(f"{good}\n{bad}\n{good}\n")
    assert unconverged(path, form, 3) == [1]
    assert unconverged(path, form, 2) == [0, 1], "which is which cannot be told"
    path.write_text(f"{good}\n{good}\n")
    assert unconverged(path, form, 5) == []


def test_a_frame_that_says_itself_that_it_did_not_converge(tmp_path):
    text = ""
    good = ("converged=T", "", "max_converged=no", "unconverged=F", "converged_ionic=F", "vasp_converged=yes")
    bad = ("converged=F", "scf_converged=False", "converged=no", "converged=.FALSE.", "scf_converged=0.0")
    bad += ("vasp_converged=F", "converged_scf=F", "unconverged=T", "not_converged=T", "scf_convergence=F")
    for number, said in enumerate((*good, *bad)):
        text += extxyz(tmp_path / "one.xyz", f"energy={number} {said}").read_text()
    (tmp_path / "a.xyz").write_text(text)
    with pytest.warns(UserWarning, match=r"10 of 16 frames did not converge.*\(6, 7, 8, "):
        system = AseSystem(tmp_path / "a.xyz", ("Cu",))
    assert [system.frame(k).energy for k in range(len(system))] == list(range(len(good)))


# LAMMPS

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 6
0 6
0 6
ITEM: ATOMS id type {columns}
1 1 {first} 0 0 0 0.1 0 0
2 2 {second} 2.5 0 0 -0.1 0 0
"""


def dump(path: Path, units: str = "", **elements: str) -> Path:
    chosen = {"columns": "x y z fx fy fz", "first": "", "second": "", **elements}
    path.write_text(units + DUMP.format(**chosen))
    return path


def test_elements_are_not_guessed_from_the_types_of_lammps(tmp_path):
    path = dump(tmp_path / "a.lammpstrj")
    for read in (lambda: AseSystem(path, ("H", "He")), lambda: read_structure(path)):
        with pytest.raises(InputError, match=r"a\.lammpstrj: .*--type-map"):
            read()
    atoms = read_structure(path, lammps_types=("Cu", "Ag"))
    assert atoms.get_chemical_formula() == "AgCu"
    with pytest.raises(InputError, match="types 1 to 2"):
        read_structure(path, lammps_types=("Cu",))
    with pytest.raises(InputError, match="types 1 to 2"):
        read_structure(path, lammps_types=("Cu", "Water"))


@pytest.mark.parametrize("change", [("id type x", "id type element x"), ("x y z", "x y z q")])
def test_frames_of_a_dump_that_differ_are_refused(tmp_path, change):
    """ASE takes the columns and units of the first for those of all."""
    one = dump(tmp_path / "a.lammpstrj").read_text()
    (tmp_path / "a.lammpstrj").write_text(one + one.replace(*change))
    with pytest.raises(InputError, match="frames have different columns or units"):
        list(iterate_structures(tmp_path / "a.lammpstrj", "a.lammpstrj", lammps_types=("Cu", "Ag")))
    (tmp_path / "a.lammpstrj").write_text("ITEM: UNITS\nmetal\n" + one + "ITEM: UNITS\nsi\n" + one)
    with pytest.raises(InputError, match="frames have different columns or units"):
        list(iterate_structures(tmp_path / "a.lammpstrj", "a.lammpstrj", lammps_types=("Cu", "Ag")))


def test_elements_in_the_dump_count(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", columns="element x y z fx fy fz", first="Ag", second="Cu")
    assert list(read_structure(path).symbols) == ["Ag", "Cu"]
    assert list(read_structure(path, lammps_types=("Cu", "Ag")).symbols) == ["Ag", "Cu"]
    frame = AseSystem(path, ("Ag", "Cu")).frame(0)
    assert frame.energy is None, "ASE's reader makes an energy of 0 up"
    assert frame.forces[0, 0] == pytest.approx(0.1)


def test_the_units_of_a_dump_count(tmp_path):
    path = dump(
        tmp_path / "a.lammpstrj",
        "ITEM: UNITS\nreal\n",
        columns="element x y z fx fy fz",
        first="Ag",
        second="Cu",
    )
    assert AseSystem(path, ("Ag", "Cu")).frame(0).forces[0, 0] == pytest.approx(0.1 * units.kcal / units.mol)


# Files that ASE does not read


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("OUTCAR", "vasp/outcar"),
        ("vasprun.xml", "vasp/xml"),
        ("OUTCAR.gz", "vasp/outcar"),
        ("any.out", "FORMAT"),
    ],
)
def test_what_ase_does_not_read_points_to_dpdata(tmp_path, name, form):
    content = b"neither fish nor fowl\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match=f"ASE.*--dpdata-format {form}"):
        AseSystem(tmp_path / name, ("H",))


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "a.xyz.bz2").write_bytes(b"not packed")
    with pytest.raises(InputError, match="cannot be decompressed"):
        AseSystem(tmp_path / "a.xyz.bz2", ("H",))


def test_a_small_archive_that_fills_the_disk_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.xyz.gz", "wb", compresslevel=9) as file:
        for _ in range(300):
            file.write(bytes(2**20))
    with pytest.raises(InputError, match="cannot be decompressed: it becomes more than 500 times as large"):
        AseSystem(tmp_path / "a.xyz.gz", ("H",))


def test_names_with_an_at_sign_are_names(tmp_path):
    Atoms("H", cell=[3, 3, 3]).write(tmp_path / "b.xyz")
    (tmp_path / "b.xyz").rename(tmp_path / "a@b.xyz")
    assert len(AseSystem(tmp_path / "a@b.xyz", ("H",))) == 1
    assert len(read_structure(tmp_path / "a@b.xyz")) == 1
