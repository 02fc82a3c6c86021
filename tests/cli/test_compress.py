"""`dpax compress`: the same energies and forces from a table, for dpax and for DeePMD-kit."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from cli.commands import dpax, error_of
from dpax import InputError, load
from dpax.data import Frame
from dpax.interfaces.compression import compress
from dpax.interfaces.model_files import open_model
from dpax.model.file import save_model
from model.support import tiny_model

SMALL = {"version": 2, "attn_layer": 0, "neuron": [4, 8]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compress")
    save_model(folder / "model.dpax", tiny_model(**SMALL), {"step": 7})
    write(folder / "water.xyz", [Atoms("OH2", [[0, 0, 0], [0, 0, 0.97], [0, x, 0]]) for x in (0.99, 0.91)])
    training = {"training_data": {"systems": "water.xyz"}}
    (folder / "input.json").write_text(json.dumps({"model": {}, "training": training}))
    return folder


def cluster(seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    sites = 1.6 * np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3)
    return Frame(sites + rng.uniform(-0.2, 0.2, sites.shape), np.arange(8) % 2, None, (False,) * 3, "cluster")


@pytest.mark.slow
def test_compressed_by_the_distances_of_an_input(folder):
    output = dpax(
        "compress", folder / "model.dpax", "-o", folder / "small.dpax", "-t", folder / "input.json"
    ).stdout
    assert "min_nbor_dist: 0.910000" in output
    plain, compressed = load(folder / "model.dpax"), load(folder / "small.dpax")
    assert "descriptor/table/knots" in compressed.model.arrays
    assert compressed.provenance["step"] == 7
    assert compressed.provenance["min_nbor_dist"] == pytest.approx(0.91, abs=1e-9)
    exact, got = plain.evaluate(cluster()), compressed.evaluate(cluster())
    np.testing.assert_allclose(got.energies, exact.energies, rtol=0, atol=1e-10)
    np.testing.assert_allclose(got.forces, exact.forces, rtol=0, atol=1e-9)
    assert not np.array_equal(got.forces, exact.forces)  # a table it is


def test_deepmd_kit_reads_the_result(folder):
    """A compressed model, converted, in DeePMD-kit's own arithmetic."""
    oracle = pytest.importorskip("oracle.deepmd_model")
    from deepmd.dpmodel.model.base_model import BaseModel
    from deepmd.dpmodel.model.model import get_model  # noqa: F401  (registers the models)
    from deepmd.dpmodel.utils.serialization import load_dp_model

    compress(folder / "model.dpax", folder / "ours.dpax", 0.9, stride=0.1, bound=1e-4)
    dpax("convert", folder / "ours.dpax", folder / "ours.dp")
    theirs = BaseModel.deserialize(load_dp_model(str(folder / "ours.dp"))["model"])
    assert theirs.atomic_model.descriptor.geo_compress
    frame = cluster()
    energies = oracle.evaluate(theirs, frame.positions, frame.types)[1]
    np.testing.assert_allclose(load(folder / "ours.dpax").evaluate(frame).energies, energies, rtol=1e-12)
    plain = load(folder / "model.dpax").evaluate(frame).energies
    assert 1e-12 < np.abs(plain - energies).max() < 1e-4


def test_a_coarse_table_is_not_written(folder):
    """The bound that is asked for holds, or there is no file."""
    arguments = ("compress", folder / "model.dpax", "-o", folder / "coarse.dpax", "--min-distance", 0.9)
    message = error_of(*arguments, "--stride", 0.5)
    assert "not written" in message
    assert "take a smaller stride" in message
    assert not (folder / "coarse.dpax").exists()
    dpax(*arguments, "--stride", 0.5, "--error", 1.0)
    assert (folder / "coarse.dpax").exists()


def test_the_distance_that_a_file_says(folder):
    with pytest.raises(InputError, match="does not state the smallest distance"):
        compress(folder / "model.dpax", folder / "none.dpax")
    save_model(folder / "told.dpax", tiny_model(**SMALL), {"min_nbor_dist": 0.9})
    found = compress(folder / "told.dpax", folder / "from_file.dpax", extrapolate=2, stride=0.1, bound=1e-4)
    assert found.knots.top == 2 * found.knots.upper
    assert found.table.within <= 1e-4


def test_attention_leaves_nothing_to_do(folder):
    """The table of type pairs is in use with or without compression."""
    save_model(folder / "attentive.dpax", tiny_model(**{**SMALL, "attn_layer": 1}), {})
    done = dpax("compress", folder / "attentive.dpax", "-o", folder / "pairs.dpax")
    assert "which dpax always uses" in done.stdout
    assert "changes neither numbers nor speed" in done.stderr
    assert "force 0.0e+00" in done.stdout
    assert "descriptor/type_pairs" in open_model(folder / "pairs.dpax")[0].arrays


def test_mistakes(folder):
    save_model(folder / "concat.dpax", tiny_model(attn_layer=0, neuron=[4, 8]), {"min_nbor_dist": 0.9})
    with pytest.raises(InputError, match=r"concat\.dpax: only descriptors with tebd_input_mode 'strip'"):
        compress(folder / "concat.dpax", folder / "none.dpax")
    arguments = ("compress", folder / "model.dpax", "-o")
    assert "exists already" in error_of(*arguments, folder / "model.dpax")
    both = ("-t", folder / "input.json", "--min-distance", 1)
    assert "both set the smallest distance" in error_of(*arguments, folder / "none.dpax", *both)
