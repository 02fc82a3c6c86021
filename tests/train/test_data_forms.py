"""Trainings do not depend on the form of the data; mixed batches resume; close pairs stay out."""

import numpy as np
import pytest

from data.builders import write_hdf5
from data.test_lmdb import packed, write_lmdb
from dpax.data import open_systems
from dpax.train import train
from dpax.train.data_settings import TrainingDataSettings
from dpax.train.setup import open_data

from .support import settings, write_data
from .test_restart import Stops, crash, records_of, weights_of

STEPS = {"training.numb_steps": 4, "training.disp_freq": 1}
MIXED = {**STEPS, "training.training_data": {"systems": ["small", "large"], "batch_size": "mixed:3"}}


@pytest.fixture
def data(tmp_path):
    write_data(tmp_path)
    return tmp_path


def test_hdf5_and_folders_train_the_same_model(data):
    write_hdf5(data / "data.h5", {"small": data / "small", "large": data / "large"})
    train(settings(STEPS), data / "from_folders", base=data)
    groups = {"training.training_data.systems": ["data.h5#/small", "data.h5#/large"]}
    train(settings(STEPS | groups), data / "from_hdf5", base=data)
    assert records_of(data / "from_hdf5") == records_of(data / "from_folders")
    assert weights_of(data / "from_hdf5/model.dpax") == weights_of(data / "from_folders/model.dpax")


def test_lmdb_of_many_sizes_trains_the_same_model(data):
    pytest.importorskip("lmdb")
    systems = open_systems(["small", "large"], ("O", "H"), data)
    frames = [system.frame(index) for system in systems for index in range(len(system))]
    fields = {
        "coords": "positions",
        "cells": "cell",
        "energies": "energy",
        "forces": "forces",
        "virials": "virial",
    }
    records = [
        {"atom_types": packed(f.types), **{name: packed(getattr(f, field)) for name, field in fields.items()}}
        for f in frames
    ]
    origins = [number for number, system in enumerate(systems) for _ in range(len(system))]
    write_lmdb(data / "all.lmdb", records, frame_system_ids=origins)
    train(settings(STEPS), data / "from_folders", base=data)
    train(settings(STEPS | {"training.training_data.systems": "all.lmdb"}), data / "from_lmdb", base=data)
    assert weights_of(data / "from_lmdb/model.dpax") == weights_of(data / "from_folders/model.dpax")


def test_mixed_batches_resume_bit_for_bit(data):
    train(settings(MIXED), data / "whole", base=data)
    with pytest.raises(KeyboardInterrupt):
        train(
            settings(MIXED | {"training.save_freq": 2}), data / "stopped", base=data, reporter=Stops(3, crash)
        )
    train(settings(MIXED | {"training.save_freq": 2}), data / "stopped", base=data, restart=True)
    assert records_of(data / "stopped") == records_of(data / "whole")
    assert weights_of(data / "stopped/model.dpax") == weights_of(data / "whole/model.dpax")


def test_the_data_section_chooses_systems_and_frames(data):
    coord = np.load(data / "small/set.000/coord.npy")
    coord[2, 3:6] = coord[2, 0:3] + [0.1, 0.0, 0.0]
    np.save(data / "small/set.000/coord.npy", coord)

    def opened(**keys):
        return open_data(TrainingDataSettings(systems=(".",), **keys), ("O", "H"), data)

    assert [len(system) for system in opened(rglob_patterns=("small", "lar*")).systems] == [5, 6]
    kept = opened(rglob_patterns=("small", "lar*"), min_pair_dist=0.3)
    assert [len(system) for system in kept.systems] == [5, 5]
    assert 2 not in {int(frame.source.split()[-1]) for frame in map(kept.systems[1].frame, range(5))}
    chosen = opened(rglob_patterns=("small", "lar*"), sys_probs=(0.25, -1))
    assert chosen.probabilities == [0.25, 0.75]
    assert opened(auto_prob="prob_sys_size;0:1:3;1:3:1").probabilities[0] == 3
    assert opened(batch_size="mixed:4").mixed
    assert opened(batch_size="mixed:4").batch_sizes == [4] * 3
    assert not opened(batch_size="max:4").mixed
