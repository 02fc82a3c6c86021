"""Frames with atoms too close to each other are left out, as DeePMD-kit's PyTorch trainer leaves them out."""

from dataclasses import replace

import numpy as np
import pytest

from dpax.data import without_close_pairs
from dpax.errors import InputError

from .builders import OneFrame, random_frame


class Listed(OneFrame):
    """A system of given frames."""

    def __init__(self, frames, copies=None):
        super().__init__(frames[0], len(frames))
        self.frames, self.copies = frames, copies

    def frame(self, index):
        return self.frames[index]


def moved(frame, distance):
    """The frame with atom 1 at a distance from a periodic image of atom 0."""
    positions = frame.positions.copy()
    positions[1] = positions[0] + frame.cell[0] + [0.0, 0.0, distance]
    return replace(frame, positions=positions)


def test_only_frames_with_close_pairs_go_and_deepmd_kit_agrees():
    check = pytest.importorskip("deepmd.dpmodel.utils.dist_check")
    frame = random_frame(6)
    distances = [0.5, 0.0, 0.79, 0.81, 0.3, 1.2]
    system = Listed([moved(frame, d) for d in distances], np.array([1, 2, 3, 4, 5, 6]))
    (kept,) = without_close_pairs([system], 0.8)
    theirs = [check.compute_min_pair_dist_single(f.positions, f.cell, f.types) >= 0.8 for f in system.frames]
    expected = [f for f, sound in zip(system.frames, theirs, strict=True) if sound]
    assert len(expected) == 2
    assert [kept.frame(k) for k in range(len(kept))] == expected
    assert kept.copies.tolist() == [4, 6]
    assert kept.n_atoms(1) == 6
    assert kept.labels == system.labels


def test_nothing_is_read_or_left_out_without_a_distance():
    system = Listed([moved(random_frame(), 0.1)])
    assert without_close_pairs([system], 0.0) == [system]


def test_a_whole_system_may_go_but_not_all_of_them():
    close, wide = Listed([moved(random_frame(), 0.1)]), Listed([random_frame()])
    assert without_close_pairs([close, wide], 0.5) == [wide]
    with pytest.raises(InputError, match=r"two atoms closer than min_pair_dist = 0.5 Å"):
        without_close_pairs([close], 0.5)
