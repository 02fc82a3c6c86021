"""Molecular dynamics: what is conserved and reached, what a restart gives, how a run goes wrong."""

import copy
import errno
import os
import re
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms

from dpax.errors import InputError, MachineError
from dpax.simulate import md
from dpax.simulate.checkpoint import Checkpoint
from dpax.simulate.files import MDFiles
from dpax.simulate.md import Silent, molecular_dynamics
from dpax.simulate.output import AseTrajectory, XyzTrajectory
from dpax.simulate.relax import relax
from dpax.simulate.settings import MDSettings

from .support import crystal, potential

NVE = MDSettings(steps=12, temperature=(300.0, 300.0), ensemble="nve", time_step=2.0, every=3, log_every=1)
ENSEMBLES = {
    "nve": NVE,
    "langevin": replace(NVE, ensemble="nvt"),
    "ramp": replace(NVE, ensemble="nvt", temperature=(300.0, 600.0)),
    "chains": replace(NVE, ensemble="nvt", thermostat="nose-hoover"),
    "ramp of chains": replace(NVE, ensemble="nvt", thermostat="nose-hoover", temperature=(300.0, 600.0)),
    "npt": replace(NVE, ensemble="npt", pressure=1e4, temperature=(300.0, 500.0), barostat_time=100.0),
    "npt of the whole cell": replace(NVE, ensemble="npt", cell_motion="full", barostat_time=100.0),
}


@pytest.fixture(scope="module")
def metal(tmp_path_factory):
    return potential(tmp_path_factory.mktemp("metal"))


@pytest.fixture(scope="module")
def relaxed(metal):
    return relax(metal, crystal(), fmax=0.05).atoms


def run(metal, atoms, settings, output, **options):
    """As in a process of its own, in which no array sizes have been used."""
    if not options.get("restart"):
        metal.capacities = {"capacities": []}
    return molecular_dynamics(metal, atoms, settings, output, **options)


def log_of(output: Path) -> dict[str, np.ndarray]:
    path = MDFiles(output).log
    names = path.read_text().splitlines()[0].strip("#").split()
    return dict(zip(names, np.loadtxt(path, ndmin=2).T, strict=True))


class AtStep(Silent):
    """Does something when a step is done."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def tick(self, step):
        if step == self.step:
            self.action()


def crash():
    raise RuntimeError("the machine is gone")


def test_energy_is_conserved(metal, relaxed, tmp_path):
    """The slope of the total energy, 0.1 ps after the start, from which Verlet's energy first swings."""
    settings = replace(NVE, steps=1100, time_step=1.0, log_every=10, every=1100)
    run(metal, relaxed, settings, tmp_path / "a.xyz")
    log = log_of(tmp_path / "a.xyz")
    assert log["temperature[K]"][0] == pytest.approx(300)
    swing = np.ptp(log["potential[eV]"]) / len(relaxed)
    late = log["time[fs]"] >= 100
    slope = np.polyfit(log["time[fs]"][late] / 1000, log["total[eV]"][late] / len(relaxed), 1)[0]
    assert swing > 5e-3
    assert abs(slope) < 1e-5  # eV/atom/ps
    np.testing.assert_array_equal(log["conserved[eV]"], log["total[eV]"])


@pytest.mark.parametrize("name", ["chains", "ramp of chains", "npt", "npt of the whole cell"])
def test_extended_energy_is_conserved(metal, relaxed, tmp_path, name):
    """With what thermostat and barostat hold, also while the thermostat's temperature rises."""
    settings = replace(ENSEMBLES[name], steps=400, time_step=0.5, log_every=10, every=400)
    run(metal, relaxed, settings, tmp_path / "a.xyz")
    log = log_of(tmp_path / "a.xyz")
    assert np.ptp(log["total[eV]"]) > 30 * np.ptp(log["conserved[eV]"])
    if settings.ensemble == "npt":
        assert np.ptp(log["volume[A^3]"]) > 1.0
    else:
        assert np.ptp(log["volume[A^3]"]) == 0.0


@pytest.mark.parametrize("thermostat", ["langevin", "nose-hoover"])
def test_thermostats_reach_the_temperature(metal, relaxed, tmp_path, thermostat):
    """From twice the temperature; the mean of 32 atoms over a picosecond is known to about 5 %."""
    settings = replace(NVE, ensemble="nvt", thermostat=thermostat, thermostat_time=50.0, steps=700, every=700)
    hot = relaxed.copy()
    hot.set_momenta(np.random.default_rng(0).normal(size=(len(hot), 3)) * 2.5)
    run(metal, hot, replace(settings, keep_velocities=True), tmp_path / "a.xyz")
    kelvin = log_of(tmp_path / "a.xyz")["temperature[K]"]
    assert kelvin[0] > 600
    assert kelvin[200:].mean() == pytest.approx(300, rel=0.15)


def test_ramp(metal, relaxed, tmp_path):
    settings = replace(
        ENSEMBLES["ramp"], temperature=(50.0, 900.0), thermostat_time=20.0, steps=400, every=400
    )
    run(metal, relaxed, settings, tmp_path / "a.xyz")
    kelvin = log_of(tmp_path / "a.xyz")["temperature[K]"]
    parts = kelvin[1:].reshape(4, 100).mean(axis=1)
    expected = 50 + 850 * (np.arange(4) + 0.5) / 4
    np.testing.assert_allclose(parts, expected, rtol=0.35, atol=60)
    assert (np.diff(parts) > 0).all()


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, ".xyz") for name in ENSEMBLES), ("nve", ".traj"), ("npt", ".traj")]
)
def test_restarted_is_uninterrupted(metal, relaxed, tmp_path, name, suffix):
    """Once stopped by a signal, once gone with lines behind the last checkpoint: the same bit for bit."""
    settings = replace(ENSEMBLES[name], checkpoint_every=4)
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    assert run(metal, relaxed, settings, whole).step == 12
    number = signal.SIGHUP if name == "nve" else signal.SIGTERM
    stop = AtStep(3, lambda: os.kill(os.getpid(), number))
    result = run(metal, relaxed, settings, parts, reporter=stop)
    assert (result.step, result.signal) == (3, number)
    with pytest.raises(RuntimeError, match="gone"):
        run(metal, relaxed, settings, parts, restart=True, reporter=AtStep(11, crash))
    assert len(log_of(parts)["step"]) == 1 + 10
    assert run(metal, relaxed, settings, parts, restart=True).step == 12
    assert MDFiles(parts).log.read_bytes() == MDFiles(whole).log.read_bytes()
    if suffix == ".xyz":
        assert parts.read_bytes() == whole.read_bytes()
    frames = zip(ase.io.read(parts, index=":"), ase.io.read(whole, index=":"), strict=True)
    for number, (one, other) in enumerate(frames):
        assert one == other
        assert one.info["step"] == 3 * number if suffix == ".xyz" else True
        np.testing.assert_array_equal(one.get_forces(), other.get_forces())
    one, other = (Checkpoint.read(MDFiles(path).checkpoint) for path in (parts, whole))
    assert one.facts == other.facts
    for key, array in other.arrays.items():
        np.testing.assert_array_equal(one.arrays[key], array, err_msg=key)


def test_a_restart_may_go_further_but_not_elsewhere(metal, relaxed, tmp_path):
    output = tmp_path / "a.xyz"
    run(metal, relaxed, ENSEMBLES["langevin"], output)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for change, words in [
        ({"time_step": 1.0}, "--time-step was 2.0 and is now 1.0"),
        ({"temperature": (300.0, 400.0)}, "--temperature was"),
        ({"ensemble": "nve"}, "--ensemble was 'nvt' and is now 'nve'"),
    ]:
        with pytest.raises(InputError, match=words):
            run(metal, relaxed, replace(ENSEMBLES["langevin"], **change), output, restart=True)
    with pytest.raises(InputError, match="other atoms"):
        run(metal, relaxed[:5], ENSEMBLES["langevin"], output, restart=True)
    with pytest.raises(InputError, match="there already: go on with --restart"):
        run(metal, relaxed, ENSEMBLES["langevin"], output)
    with pytest.raises(InputError, match="no checkpoint to go on from"):
        run(metal, relaxed, ENSEMBLES["langevin"], tmp_path / "b.xyz", restart=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(metal, relaxed, replace(ENSEMBLES["langevin"], steps=15), output, restart=True).step == 15
    assert log_of(output)["step"].tolist() == list(range(16))


def test_files_that_have_changed_are_not_gone_on_with(metal, relaxed, tmp_path):
    for suffix in (".xyz", ".traj"):
        output = tmp_path / f"a{suffix}"
        run(metal, relaxed, NVE, output, overwrite=True)
        output.unlink()
        with pytest.raises(InputError, match=r"is shorter|cannot be read"):
            run(metal, relaxed, replace(NVE, steps=13), output, restart=True)
    output = tmp_path / "c.traj"
    run(metal, relaxed, NVE, output)
    content = output.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + bytes(len(content) - middle), b"\xff" * 200):
        output.write_bytes(damaged)
        with pytest.raises(InputError, match=r"c\.traj: (cannot be read as a trajectory|has \d+ frames)"):
            run(metal, relaxed, replace(NVE, steps=13), output, restart=True)
        assert output.read_bytes() == damaged
    run(metal, relaxed, NVE, tmp_path / "b.xyz")
    MDFiles(tmp_path / "b.xyz").checkpoint.write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="not a checkpoint of dpax md"):
        run(metal, relaxed, NVE, tmp_path / "b.xyz", restart=True)


def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(metal, relaxed, tmp_path, monkeypatch):
    run(metal, relaxed, NVE, tmp_path / "a.xyz")
    for error in (OSError(errno.EACCES, "no"), OSError(errno.EMFILE, "no"), MemoryError()):
        with monkeypatch.context() as broken:
            broken.setattr("dpax.simulate.checkpoint._read_arrays", raising(error))
            with pytest.raises(MachineError) as caught:
                run(metal, relaxed, NVE, tmp_path / "a.xyz", restart=True)
        assert "--overwrite" not in str(caught.value)


def raising(error):
    def function(*_):
        raise error

    return function


@pytest.fixture(scope="module")
def begun(metal, relaxed, tmp_path_factory):
    """The files of a simulation with a barostat, whose integrator has more arrays than others."""
    output = tmp_path_factory.mktemp("begun") / "a.xyz"
    run(metal, relaxed, ENSEMBLES["npt"], output)
    return output


def fact(path, value):
    def change(arrays, facts):
        section = facts
        *parts, last = path.split(".")
        for part in parts:
            section = section[part]
        if value is None:
            del section[last]
        else:
            section[last] = value

    return change


def array(name, new):
    def change(arrays, facts):
        if new is None:
            del arrays[name]
        else:
            arrays[name] = np.asarray(new)

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(fact(key, None) for key in ("step", "energy", "start", "settings", "rng", "capacities", "marks")),
        *(fact("step", value) for value in (-1, "3", 3.0, True, [3])),
        *(fact("energy", value) for value in ("low", float("nan"), float("inf"), [1.0])),
        *(fact("start", value) for value in ([], {}, "start")),
        fact("start.temperature", None),
        fact("start.temperature", "hot"),
        *(fact("rng", value) for value in ({}, [], {"bit_generator": "MT19937"})),
        fact("rng.state", {"state": -1, "inc": "x"}),
        fact("settings", 5),
        *(fact("capacities", value) for value in ([], {"capacities": [[8]]}, {"capacities": [[8, -8]]})),
        *(fact("marks.log", value) for value in (-1, "end", 1.5)),
        fact("marks.trajectory", None),
        *(array(name, None) for name in ("numbers", "positions", "momenta", "cell", "work")),
        *(array("positions", value) for value in (np.zeros((1, 3)), np.zeros(3), np.full((32, 3), np.nan))),
        array("positions", np.zeros((32, 3), complex)),
        array("positions", np.full((32, 3), "x")),
        array("momenta", np.zeros((31, 3))),
        array("momenta", np.full((32, 3), np.inf)),
        array("cell", np.eye(2)),
        array("numbers", 5),
        array("numbers", np.zeros((32, 3), int)),
        array("work", np.zeros(3)),
        array("strange", 1.0),
    ],
)
def test_checkpoints_with_wrong_contents_are_refused(metal, relaxed, begun, tmp_path, change):
    """With the right digest, as another version of dpax might write them; the files stay as they are."""
    for path in begun.parent.iterdir():
        shutil.copy(path, tmp_path)
    output = tmp_path / begun.name
    file = MDFiles(output).checkpoint
    checkpoint = Checkpoint.read(file)
    arrays, facts = dict(checkpoint.arrays), copy.deepcopy(checkpoint.facts)
    change(arrays, facts)
    Checkpoint(arrays, facts).write(file)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"checkpoint"):
        run(metal, relaxed, ENSEMBLES["npt"], output, restart=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_whose_contents_have_changed_is_refused(begun, tmp_path):
    """Every byte of it counts, and so does what its parts say together."""
    source, path = MDFiles(begun).checkpoint, tmp_path / "a.checkpoint"
    content, expected = source.read_bytes(), Checkpoint.read(source)
    for place in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            found = Checkpoint.read(path)
        except InputError as error:
            message = str(error)
        else:
            message = None
            assert found.facts == expected.facts
            assert {k: v.tobytes() for k, v in found.arrays.items()} == {
                k: v.tobytes() for k, v in expected.arrays.items()
            }
        assert message is None or re.match(rf"{path}: not a checkpoint .*damaged .*--overwrite", message)
    with np.load(source) as file:
        arrays = dict(file)
    np.savez(tmp_path / "b.npz", **arrays | {"positions": arrays["positions"] + 1e-12})
    with pytest.raises(InputError, match="its contents have changed"):
        Checkpoint.read(tmp_path / "b.npz")
    del arrays["digest"]
    np.savez(tmp_path / "c.npz", **arrays)  # as earlier versions of dpax did
    assert Checkpoint.read(tmp_path / "c.npz").facts == expected.facts


def test_another_model_does_not_go_on(metal, relaxed, tmp_path):
    run(metal, relaxed, NVE, tmp_path / "a.xyz")
    file = MDFiles(tmp_path / "a.xyz").checkpoint
    checkpoint = Checkpoint.read(file)
    Checkpoint(checkpoint.arrays, checkpoint.facts | {"energy": checkpoint.facts["energy"] + 1}).write(file)
    with pytest.raises(InputError, match=r"0\.031 eV/atom away .* give the model"):
        run(metal, relaxed, replace(NVE, steps=13), tmp_path / "a.xyz", restart=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"time_step": 60.0, "steps": 400},
            r"blew up at step \d+: .* The last checkpoint is that of step \d+, from which",
        ),
        (
            {"max_temperature": 200.0},
            r"not one to start a simulation from: the temperature is 300 K, above .* 200 K",
        ),
        ({"min_distance": 2.9}, r"the atoms \d+ \(\w+\) and \d+ \(\w+\), counted from 0, are 2\.\d+ Å apart"),
    ],
)
def test_what_blows_up_says_so(metal, relaxed, tmp_path, changes, message):
    settings = replace(NVE, checkpoint_every=1, **changes)
    with pytest.raises(InputError, match=message) as caught:
        run(metal, relaxed, settings, tmp_path / "a.xyz")
    saved = re.search(r"checkpoint is that of step (\d+)", str(caught.value))
    if saved:
        checkpoint = Checkpoint.read(MDFiles(tmp_path / "a.xyz").checkpoint)
        assert checkpoint.facts["step"] == int(saved[1])
        assert np.isfinite(checkpoint.arrays["positions"]).all()


def test_the_closest_distance_of_the_training_data_is_the_measure(metal, relaxed, tmp_path, monkeypatch):
    monkeypatch.setattr(metal, "provenance", {"min_nbor_dist": 4.0})
    with pytest.raises(InputError, match=r"closer than the limit of 3\.2 Å"):
        run(metal, relaxed, NVE, tmp_path / "a.xyz")


def test_structures_that_an_ensemble_does_not_allow(metal, relaxed, tmp_path):
    slab, fixed, strange = relaxed.copy(), relaxed.copy(), relaxed.copy()
    slab.pbc = (True, True, False)
    fixed.set_constraint(FixAtoms([0]))
    strange.symbols[1] = "Au"
    for atoms, name, words in [
        (slab, "npt", "periodic in all three directions; the structure has pbc T T F"),
        (fixed, "chains", "has constraints .FixAtoms."),
        (strange, "nve", "contains Au"),
    ]:
        with pytest.raises(InputError, match=words):
            run(metal, atoms, ENSEMBLES[name], tmp_path / "a.xyz")
    with pytest.raises(InputError, match="--keep-velocities: the structure has none"):
        run(metal, crystal(), replace(NVE, keep_velocities=True), tmp_path / "a.xyz")
    with pytest.raises(InputError, match=r"name ends in \.xyz"):
        run(metal, relaxed, NVE, tmp_path / "a.pdb")
    assert not list(tmp_path.iterdir())


def test_fixed_atoms_stay_and_a_slab_has_no_pressure(metal, relaxed, tmp_path):
    atoms = relaxed.copy()
    atoms.pbc = (True, True, False)
    atoms.set_constraint(FixAtoms([0, 3]))
    run(metal, atoms, ENSEMBLES["langevin"], tmp_path / "a.xyz")
    last = ase.io.read(tmp_path / "a.xyz", index=-1)
    moved = np.abs(last.positions - atoms.positions).max(axis=1)
    np.testing.assert_allclose(moved[[0, 3]], 0.0, atol=1e-7)
    assert np.delete(moved, [0, 3]).min() > 1e-3
    assert list(log_of(tmp_path / "a.xyz")) == [
        "step",
        "time[fs]",
        "temperature[K]",
        "potential[eV]",
        "total[eV]",
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 5}, "--temperature is missing"),
        (
            {"steps": 5, "temperature": (300, 300), "time_step": 0},
            "--time-step: should be positive and finite, got 0",
        ),
        ({"steps": -5, "temperature": (300, 300)}, "--steps: should not be negative, got -5"),
        (
            {"steps": 5, "temperature": (300, -1)},
            "--temperature: should be finite and not negative, got -1 K",
        ),
        ({"steps": 5, "temperature": (300, 400), "ensemble": "nve"}, "NVE has no thermostat"),
        ({"steps": 5, "temperature": (0, 0), "ensemble": "npt"}, "need a temperature above 0 K"),
    ],
)
def test_settings_that_make_no_sense(values, words):
    with pytest.raises(InputError, match=words):
        MDSettings(**values)


def test_velocities_of_the_structure(metal, relaxed, tmp_path):
    run(metal, relaxed, replace(NVE, seed=7), tmp_path / "a.xyz")
    last = ase.io.read(tmp_path / "a.xyz", index=-1)
    onward = MDSettings(steps=1, ensemble="nve", keep_velocities=True)
    run(metal, last, onward, tmp_path / "b.xyz")
    assert log_of(tmp_path / "b.xyz")["total[eV]"][0] == pytest.approx(
        log_of(tmp_path / "a.xyz")["total[eV]"][-1]
    )
    run(metal, relaxed, replace(NVE, seed=8, steps=0), tmp_path / "c.xyz")
    first = [ase.io.read(tmp_path / f"{name}.xyz", index=0) for name in "ac"]
    assert np.abs(first[0].get_momenta() - first[1].get_momenta()).max() > 0.1
    assert np.abs(first[0].get_momenta().sum(axis=0)).max() < 1e-5


def test_checkpoints_take_each_others_place_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.checkpoint"
    Checkpoint({"a": np.arange(3)}, {"step": 1}).write(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: crash())
    with pytest.raises(RuntimeError):
        Checkpoint({"a": np.arange(4)}, {"step": 2}).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Starts that are killed, and simulations under way


def until(monkeypatch, count: int) -> None:
    """Let the machine be gone before the file operation of this number, counted from 0."""
    done = iter(range(count))

    def counted(real):
        def operation(*args, **options):
            if next(done, None) is None:
                crash()
            return real(*args, **options)

        return operation

    monkeypatch.setattr(Checkpoint, "write", counted(Checkpoint.write))
    monkeypatch.setattr(md, "open_trajectory", counted(md.open_trajectory))
    monkeypatch.setattr(md.ThermoLog, "__init__", counted(md.ThermoLog.__init__))
    monkeypatch.setattr(md.ThermoLog, "write", counted(md.ThermoLog.write))
    for kind in (XyzTrajectory, AseTrajectory):
        monkeypatch.setattr(kind, "write", counted(kind.write))


@pytest.fixture(scope="module")
def uninterrupted(metal, relaxed, tmp_path_factory):
    """Trajectories of whole simulations, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    for suffix in (".xyz", ".traj"):
        run(metal, relaxed, replace(NVE, steps=3), folder / f"whole{suffix}", overwrite=True)
    return folder


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_before_its_first_checkpoint_is_begun_again(
    metal, relaxed, uninterrupted, tmp_path, monkeypatch, suffix, overwrite
):
    """Between any two operations of the start; what was there before is replaced, or still there."""
    settings = replace(NVE, steps=3)
    for count in range(6):
        output = tmp_path / f"{count}{suffix}"
        if overwrite:
            run(metal, relaxed, replace(settings, seed=5), output)
        with monkeypatch.context() as patch:
            until(patch, count)
            with pytest.raises(RuntimeError, match="gone"):
                run(metal, relaxed, settings, output, overwrite=overwrite)
        if count == 0:
            assert len(list(tmp_path.iterdir())) == 3 * overwrite
            continue
        run(metal, relaxed, settings, output, restart=True)
        assert log_of(output)["step"].tolist() == [0, 1, 2, 3]
        assert MDFiles(output).log.read_bytes() == (uninterrupted / "whole.log").read_bytes()
        frames = [ase.io.read(path, index=":") for path in (output, uninterrupted / f"whole{suffix}")]
        assert frames[0] == frames[1]


def beginning(metal, relaxed, output: Path, monkeypatch, count: int) -> None:
    """What earlier versions left, which wrote the first checkpoint last."""
    with monkeypatch.context() as patch:
        until(patch, count)
        with pytest.raises(RuntimeError):
            run(metal, relaxed, NVE, output)
    MDFiles(output).checkpoint.unlink()


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_a_beginning_without_a_checkpoint_is_begun_again(
    metal, relaxed, tmp_path, monkeypatch, suffix, count
):
    output = tmp_path / f"a{suffix}"
    beginning(metal, relaxed, output, monkeypatch, count)
    with pytest.raises(InputError, match="is there already: go on with --restart"):
        run(metal, relaxed, NVE, output)
    if count == 5:  # the only frame, cut short
        output.write_bytes(output.read_bytes()[:-100])
    assert run(metal, relaxed, NVE, output, restart=True).step == 12
    assert log_of(output)["step"].tolist() == list(range(13))


FOREIGN = {
    "structure": lambda output: ase.io.write(output, crystal(1)),
    "trajectory": lambda output: ase.io.write(output, [crystal(1), crystal(1)]),
    "notes": lambda output: output.write_text("notes\n"),
    "notes in the log": lambda output: output.with_suffix(".log").write_text("# my notes\n"),
    "another log": lambda output: output.with_suffix(".log").write_text("step 0\n"),
    "bytes in the log": lambda output: output.with_suffix(".log").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_not_begun_again(metal, relaxed, tmp_path, monkeypatch, suffix, name):
    """Neither where there is no checkpoint, nor where one was the only thing that was written."""
    output = tmp_path / f"a{suffix}"
    with monkeypatch.context() as patch:
        until(patch, 1)
        with pytest.raises(RuntimeError):
            run(metal, relaxed, NVE, output)
    FOREIGN[name](output)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="is not of its making; move it away"):
        run(metal, relaxed, NVE, output, restart=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    MDFiles(output).checkpoint.unlink()
    with pytest.raises(InputError, match="no checkpoint to go on from"):
        run(metal, relaxed, NVE, output, restart=True)
    with pytest.raises(InputError, match="there already: replace it with --overwrite"):
        run(metal, relaxed, NVE, output)


def test_a_living_simulation_is_left_alone(metal, relaxed, tmp_path):
    """In whatever format the other one is, for both would write one log and one checkpoint."""
    output, refused = tmp_path / "a.xyz", []

    def attempt(path: Path, **options) -> None:
        with pytest.raises(InputError) as caught:
            molecular_dynamics(metal, relaxed, NVE, path, **options)
        refused.append(str(caught.value))

    def beside() -> None:
        files = {path: path.read_bytes() for path in tmp_path.iterdir()}
        for path in (output, tmp_path / "a.traj", tmp_path / "a.extxyz"):
            for options in ({}, {"restart": True}, {"overwrite": True}):
                attempt(path, **options)
        thread = threading.Thread(target=attempt, args=(output,), kwargs={"restart": True})
        thread.start()
        thread.join()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files

    run(metal, relaxed, NVE, output, reporter=AtStep(5, beside))
    assert len(refused) == 10
    assert all(f"in use by process {os.getpid()} on " in text for text in refused)
    assert log_of(output)["step"].tolist() == list(range(13))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.checkpoint", "a.log", "a.xyz"]


def test_a_checkpoint_belongs_to_one_format(metal, relaxed, tmp_path):
    """Its marks are bytes in one and frames in the other, so that a file would be cut at a wrong place."""
    run(metal, relaxed, NVE, tmp_path / "a.traj")
    ase.io.write(tmp_path / "a.xyz", crystal())
    before = (tmp_path / "a.xyz").read_bytes()
    with pytest.raises(InputError, match=r"belongs to a trajectory that ends in \.traj, not to .*a\.xyz"):
        run(metal, relaxed, replace(NVE, steps=13), tmp_path / "a.xyz", restart=True)
    assert (tmp_path / "a.xyz").read_bytes() == before
