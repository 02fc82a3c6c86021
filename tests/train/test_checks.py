"""`dpax validate` and a training run refuse the same inputs, in the same words."""

import numpy as np
import pytest

from dpax.data import ParameterWidths, open_systems
from dpax.errors import InputError
from dpax.train import train
from dpax.train.checks import Seen, data_warnings, label_warnings, sel_warnings
from dpax.train.probe import prepared
from dpax.train.survey import survey_system
from train.support import settings, write_data

XYZ = (
    '2\nLattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3:{forces}:R:3 {energy} pbc="T T T"\n'
    "O 0 0 0 0.1 0 0\nH 1.5 0 0 -0.1 0 0\n"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    for name, energy, forces in (
        ("ref.xyz", "REF_energy=-3.5", "forces"),
        ("dft.xyz", "energy=-3.5", "DFT_forces"),
        ("mace.xyz", "energy_mace=-3.5", "forces"),
        ("both.xyz", "energy=-3.5 dft_energy=-4.5", "forces"),
        ("stress.xyz", 'energy=-3.5 REF_stress="1 0 0 0 1 0 0 0 1"', "forces"),
        ("unit.xyz", "energy=-3.5 energy_unit=furlong", "forces"),
    ):
        (folder / name).write_text(2 * XYZ.format(energy=energy, forces=forces))
    return folder


def message(start) -> str:
    with pytest.raises(InputError) as caught:
        start()
    return str(caught.value)


ENERGY, FORCES, VIRIAL = ({f"loss.{end}_pref_{term}": 0.0 for end in ("start", "limit")} for term in "efv")
HESSIAN = {"loss.start_pref_h": 1.0, "loss.limit_pref_h": 1.0}
DATA, VALIDATION = "training.training_data", "training.validation_data"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({DATA: {"systems": "ref.xyz"}}, "ref.xyz: REF_energy is not read"),
        ({DATA: {"systems": ["small", "dft.xyz"]}}, "dft.xyz: DFT_forces is not read"),
        ({DATA: {"systems": "mace.xyz"}}, "mace.xyz: energy_mace is not read"),
        ({VALIDATION: {"systems": "ref.xyz"}}, "ref.xyz: REF_energy is not read"),
        ({DATA: {"systems": "unit.xyz"}}, "energy_unit=furlong"),
        ({DATA: {"systems": "nowhere"}}, "no data found at 'nowhere'"),
        ({VALIDATION: {"systems": "nowhere"}}, "no data found at 'nowhere'"),
        ({DATA: {"systems": "small", "batch_size": [1, 2]}}, "lists 2 numbers for 1 systems"),
        ({DATA: {"systems": "small", "sys_probs": [0.5, 0.5]}}, "sys_probs"),
        ({DATA: {"systems": "small", "min_pair_dist": 50.0}}, "closer than min_pair_dist"),
        (HESSIAN | ENERGY | FORCES | VIRIAL, "the loss weighs hessian, which no frame"),
        ({"training.stat_file": "s.json", "training.stat_file_mode": "read"}, "no statistics of these data"),
        ({"training.stat_file": "ref.xyz"}, "is not a statistics file"),
        ({"model.descriptor.trainable": False, "model.fitting_net.trainable": False}, "nothing is trainable"),
        ({"model.use_srtab": "none.txt", "model.sw_rmin": 0.5, "model.sw_rmax": 1.0}, "none.txt"),
        ({"model.fitting_net.numb_fparam": 1}, "has no fparam"),
        ({"dpax.started_from": {"how": "finetune"}}, "started from a trained model"),
    ],
)
def test_what_a_run_refuses_is_not_called_ready(base, tmp_path, changes, words):
    chosen = settings(changes)

    def prepare():
        with prepared(chosen, base):
            pass

    refused = message(lambda: train(chosen, tmp_path / "run", base=base))
    assert message(prepare) == refused
    assert not (tmp_path / "run").exists()
    assert words in refused


def test_labels_under_two_names_are_warned_of(base):
    def texts(path: str) -> list[str]:
        chosen = settings({"training.training_data": {"systems": path}})
        systems = open_systems(path, ["O", "H"], base)
        return data_warnings(chosen, systems, [Seen(frozenset({0, 1}), 1, "", 1.0, "")])

    assert any("dft_energy is not read" in text and "usual name" in text for text in texts("both.xyz"))
    assert any("REF_stress is not read" in text for text in texts("stress.xyz"))
    assert not any("is not read" in text for text in texts("small"))


def test_a_weight_that_has_a_default_is_not_missed():
    weighed = VIRIAL | {"loss.start_pref_pf": 1.0, "loss.limit_pref_pf": 1.0}
    assert label_warnings(settings(weighed), "a", 5, {"energy": 5, "forces": 5}) == [
        "a: 5 of 5 frames have no atom_pref"
    ]
    chosen = settings(weighed | {"loss.use_default_pf": True})
    assert label_warnings(chosen, "a", 5, {"energy": 5, "forces": 5}) == []


def test_keys_of_the_data_section_are_read(base):
    chosen = settings(
        {"training.training_data": {"systems": "ref.xyz", "keys": {"energy": "REF_energy"}}, "loss": {}}
    )
    with prepared(chosen, base) as (run, batch):
        assert run.data.labels >= {"energy", "forces"}
        assert float(np.asarray(batch.labels.values["energy"])[0]) == -3.5
    for wrong in ({"power": "P"}, {"virial": "a", "stress": "b"}, {"energy": 3}):
        with pytest.raises(InputError, match="keys"):
            settings({"training.training_data": {"systems": "ref.xyz", "keys": wrong}})


def test_a_survey_tells_what_the_checks_ask_for(base):
    (system,) = open_systems("small", ["O", "H"], base)
    one = survey_system(system, 3.5, ParameterWidths())
    assert one.seen.types == {0, 1}
    assert one.seen.most_neighbors == one.neighbors.max_neighbors > 0
    assert sel_warnings(1, [one.seen])[0].startswith(one.neighbors.crowded)
    assert sel_warnings(None, [one.seen]) == sel_warnings(500, [one.seen]) == []
    chosen = settings()
    assert label_warnings(chosen, "small", 6, {"energy": 6, "forces": 4}) == [
        "small: 2 of 6 frames have no forces",
        "small: 6 of 6 frames have no virial",
    ]
    close = one.seen._replace(closest=0.3, closest_in="small frame 2", types=frozenset({0}))
    texts = data_warnings(chosen, [system], [close])
    assert any("only 0.300 Å apart" in text for text in texts)
    assert any("no atom of H" in text for text in texts)
    assert any("no validation_data" in text for text in texts)
