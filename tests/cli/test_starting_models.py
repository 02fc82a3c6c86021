"""Starting from a trained model, and changing the energy bias of one, as a user types it."""

import json

import numpy as np
import pytest
import yaml
from ase.io import write

from cli.commands import dpax, error_of
from cli.test_commands import INPUT, alloys, write_input
from dpax.descriptor.embedding import type_embedding
from dpax.interfaces.model_files import load, open_model, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data and a trained run."""
    folder = tmp_path_factory.mktemp("finetune")
    write(folder / "train.xyz", alloys(6, 0), format="extxyz")
    write(folder / "other.xyz", alloys(5, 3), format="extxyz")
    dpax("train", write_input(folder, training__validation_data=None), "-o", folder / "trained")
    return folder


@pytest.fixture(scope="module")
def bare(folder):
    """An input that says nothing of the architecture: other elements, other data, other options."""
    content = json.loads(json.dumps(INPUT))
    content["model"] = {"type_map": ["Ag", "Au", "Cu"], "descriptor": {"trainable": False}}
    content["training"]["training_data"]["systems"] = "other.xyz"
    del content["training"]["validation_data"]
    (folder / "bare.yaml").write_text(yaml.safe_dump(content))
    return folder / "bare.yaml"


def test_fine_tuning_takes_the_architecture_over_and_goes_on(folder, bare):
    run, options = folder / "tuned", ("--finetune", folder / "trained", "--use-pretrain-script")
    shown = dpax("train", bare, "-o", run, *options).stdout
    assert "Ag: not in the trained model, which knows Cu Au;" in shown
    assert "energy bias in eV: Ag 0 to 0, Au " in shown
    recorded = json.loads((run / "input.json").read_text())
    assert recorded["dpax"]["started_from"] == {
        "how": "finetune",
        "model": str(folder / "trained"),
        "branch": None,
        "use_pretrain_script": True,
    }
    assert recorded["model"]["type_map"] == ["Ag", "Au", "Cu"]
    assert recorded["model"]["descriptor"]["rcut"] == 3.5
    assert recorded["model"]["descriptor"]["trainable"] is False
    before, after = load(folder / "trained" / "model.dpax").model, load(run / "model.dpax").model
    tables = [np.asarray(type_embedding(m.spec.descriptor, m.descriptor)) for m in (after, before)]
    np.testing.assert_allclose(tables[0][[2, 1]], tables[1][:2], rtol=1e-14)
    assert "4/4" not in dpax("train", bare, "-o", run, "--restart").stdout
    assert load(run / "model.dpax").model.bias == after.bias


def test_the_input_of_a_fine_tuned_run_repeats_it(folder, bare):
    run = folder / "tuned to be repeated"
    dpax("train", bare, "-o", run, "--finetune", folder / "trained", "--use-pretrain-script")
    dpax("train", run / "input.json", "-o", folder / "repeated")
    first, second = (load(path / "model.dpax").model for path in (run, folder / "repeated"))
    assert first.bias == second.bias
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name], err_msg=name)


def test_a_fresh_fitting_net_on_a_model_of_deepmd(folder, bare):
    path = folder / "trained.dp"
    write_model(path, *open_model(folder / "trained" / "model.dpax"))
    run = folder / "random"
    dpax("train", bare, "-o", run, "-t", path, "--model-branch", "RANDOM", "--use-pretrain-script")
    recorded = json.loads((run / "input.json").read_text())["model"]
    assert recorded["finetune_head"] == "RANDOM"
    assert recorded["descriptor"]["neuron"] == [4, 8]
    assert recorded["fitting_net"]["neuron"] == [120, 120, 120]


def test_mistakes_are_one_line_and_leave_nothing(folder, bare):
    trained, run = folder / "trained", folder / "nothing"
    text = error_of("train", bare, "-o", run, "-i", trained, "--use-pretrain-script")
    assert "does not know Ag, only Cu Au; leave them out of model.type_map" in text
    wider = write_input(folder, "wider.yaml", model__descriptor__rcut=4.0, training__validation_data=None)
    text = error_of("train", wider, "-o", run, "--init-frz-model", trained / "model.dpax")
    assert "descriptor.rcut is 4.0 and was 3.5" in text
    text = error_of("train", wider, "-o", run, "-i", trained, "-t", trained)
    assert text.startswith("--init-model and --finetune each set the starting model")
    assert "leave out the branch 'H2O'" in error_of(
        "train", wider, "-o", run, "-t", trained, "--model-branch", "H2O"
    )
    assert not run.exists()


def test_the_bias_is_changed_to_fit_the_data(folder):
    trained, output = folder / "trained" / "model.dpax", folder / "changed.dp"
    shown = dpax(
        "change-bias", trained, "-s", folder / "train.xyz", folder / "other.xyz", "-o", output
    ).stdout
    assert f"{output}: written" in shown
    before, after = load(trained), load(output)
    images = [*alloys(6, 0), *alloys(5, 3)]
    for potential, sign in ((before, False), (after, True)):
        errors = [potential.evaluate(a).energy - a.get_potential_energy() for a in images]
        counts = np.array([[a.symbols.count("Cu"), a.symbols.count("Au")] for a in images])
        assert np.allclose(counts.T @ errors, 0, atol=1e-6) == sign
    given = folder / "given.dpax"
    dpax("change-bias", trained, "-b", "-3.5", "-3.25", "-o", given)
    assert load(given).model.bias == (-3.5, -3.25)
    assert load(given).provenance["bias_changed"]["mode"] == "given"
    assert "got 1 numbers; the model has the types Cu Au" in error_of(
        "change-bias", trained, "-b", "1", "-o", folder / "no.dpax"
    )
    assert "--overwrite" in error_of("change-bias", trained, "-b", "1", "2", "-o", given)
