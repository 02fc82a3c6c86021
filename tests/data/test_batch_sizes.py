"""The rules for the number of frames in a batch."""

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import batch_sizes, filter_systems, is_mixed, open_systems
from dpax.errors import InputError

from .builders import write_system


class Sizes:
    """A system of which only the sizes of the frames are known."""

    name, path, type_map, labels, copies = "sizes", Path("sizes"), (), frozenset(), None
    unread: ClassVar[dict] = {}

    def __init__(self, *atoms):
        self.atoms = atoms

    def __len__(self):
        return len(self.atoms)

    def n_atoms(self, index):
        return self.atoms[index]


SYSTEMS = [Sizes(3), Sizes(10, 20), Sizes(32), Sizes(192)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (4, [4, 4, 4, 4]),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ((1, 2, 3, 4), [1, 2, 3, 4]),
        ("auto", [11, 2, 1, 1]),
        ("auto:64", [22, 4, 2, 1]),
        ("max:64", [21, 3, 2, 1]),
        ("filter:64", [21, 3, 2, 1]),
        ("mixed:5", [5, 5, 5, 5]),
    ],
)
def test_the_rules(rule, expected):
    assert batch_sizes(SYSTEMS, rule) == expected


def test_filter_leaves_out_large_frames():
    assert filter_systems(SYSTEMS, "filter:32") == SYSTEMS[:3]
    small, part = filter_systems(SYSTEMS, "filter:15")
    assert small is SYSTEMS[0]
    assert [part.n_atoms(index) for index in range(len(part))] == [10]
    for rule in (3, [1, 1, 1, 1], "auto", "max:4"):
        assert filter_systems(SYSTEMS, rule) == SYSTEMS
    with pytest.raises(InputError, match="leaves out all 4 systems: the smallest frame has 3 atoms"):
        filter_systems(SYSTEMS, "filter:2")


@pytest.mark.parametrize("rule", ["all", "auto:", "auto:-3", "max", "max:0", "filter:x", ""])
def test_unknown_rules_are_refused_with_the_known_ones(rule):
    for function in (batch_sizes, filter_systems):
        with pytest.raises(InputError, match="auto:N"):
            function(SYSTEMS, rule)


def test_a_list_must_fit_the_systems():
    with pytest.raises(InputError, match="3 numbers for 4 systems"):
        batch_sizes(SYSTEMS, [1, 2, 3])
    with pytest.raises(InputError, match="batch_size should be"):
        batch_sizes(SYSTEMS, [1, 2, 0, 1])


@given(st.integers(1, 300), st.integers(1, 500))
def test_auto_is_the_smallest_and_max_the_largest_that_fit(atoms, number):
    (smallest,) = batch_sizes([Sizes(atoms)], f"auto:{number}")
    assert smallest * atoms >= number > (smallest - 1) * atoms
    (largest,) = batch_sizes([Sizes(atoms)], f"max:{number}")
    assert (largest + 1) * atoms > number
    assert largest * atoms <= number or largest == 1


@pytest.mark.parametrize("rule", ["auto", "auto:7", "max:10", "filter:4", "mixed:3", 2, [1, 2, 3]])
def test_deepmd_kit_makes_the_same_of_the_rules(tmp_path, rule):
    theirs = pytest.importorskip("deepmd.utils.data_system")
    for n in (2, 4, 5):
        write_system(tmp_path / f"s{n}", types=(0,) * n)
    folders = sorted(map(str, tmp_path.iterdir()))
    data = theirs.DeepmdDataSystem(folders, rule, 1, type_map=["O", "H"])
    ours = filter_systems(open_systems(folders, ("O", "H")), rule)
    assert [str(system.path) for system in ours] == data.system_dirs
    assert batch_sizes(ours, rule) == list(data.batch_size)
    assert is_mixed(rule) == data.mixed_systems
