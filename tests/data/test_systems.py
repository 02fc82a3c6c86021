"""From paths in the settings to systems, in every form a user may write."""

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from dpax.data import Reading, elements_in, open_systems
from dpax.errors import InputError

from .builders import write_system


@pytest.fixture
def tree(tmp_path):
    for name in ("set_b/water_2", "set_b/water_10", "set_a/deep/er/water"):
        write_system(tmp_path / "data" / name)
    (tmp_path / "data/xyz").mkdir()
    for name in ("one", "two"):
        ase.io.write(tmp_path / f"data/xyz/{name}.extxyz", [molecule("H2O"), molecule("CH4")])
    return tmp_path


def names(paths, base):
    return [system.name for system in open_systems(paths, ("H", "C", "O"), base)]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ("data/set_b/water_2", ["data/set_b/water_2"]),
        (["data/set_b/water_2/"], ["data/set_b/water_2"]),
        ("data", ["data/set_a/deep/er/water", "data/set_b/water_10", "data/set_b/water_2"]),
        ("data/set_b/*", ["data/set_b/water_10", "data/set_b/water_2"]),
        ("data/xyz/*.extxyz", ["data/xyz/one.extxyz", "data/xyz/two.extxyz"]),
        ("data/**/two.extxyz", ["data/xyz/two.extxyz"]),
        (["data/xyz/two.extxyz", "data/set_b/water_2"], ["data/xyz/two.extxyz", "data/set_b/water_2"]),
        (["data/set_b/water_2", "data/set_b/water_2"], ["data/set_b/water_2", "data/set_b/water_2"]),
        # A pattern takes each system once, however it is spelt and whatever else it matches.
        ("./data/xyz/*.extxyz", ["data/xyz/one.extxyz", "data/xyz/two.extxyz"]),
        ("data//xyz/./*.extxyz", ["data/xyz/one.extxyz", "data/xyz/two.extxyz"]),
        ("./data/set_b/*/", ["data/set_b/water_10", "data/set_b/water_2"]),
        ("./da*", ["data/set_a/deep/er/water", "data/set_b/water_10", "data/set_b/water_2"]),
        ("data/set_b/**/", ["data/set_b/water_10", "data/set_b/water_2"]),
    ],
)
def test_what_a_path_may_be(tree, paths, expected):
    assert names(paths, tree) == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["water_*"], ["data/set_b/water_10", "data/set_b/water_2"]),
        (["water"], ["data/set_a/deep/er/water"]),
        (["set_b/*_2", "er/*"], ["data/set_a/deep/er/water", "data/set_b/water_2"]),
        (["*"], ["data/set_a/deep/er/water", "data/set_b/water_10", "data/set_b/water_2"]),
    ],
)
def test_patterns_choose_among_the_systems_below_a_folder(tree, patterns, expected):
    systems = open_systems("data", ("H", "C", "O"), tree, patterns)
    assert [system.name for system in systems] == expected
    theirs = pytest.importorskip("deepmd.common").rglob_sys_str(str(tree / "data"), patterns)
    assert sorted(theirs) == sorted(str(tree / name) for name in expected)


def test_patterns_that_match_nothing_are_named(tree):
    with pytest.raises(InputError, match=r"no data found at 'data' with a folder that matches ice_\*"):
        open_systems("data", ("H", "O"), tree, ["ice_*"])


def test_absolute_paths_and_the_working_directory(tree, monkeypatch):
    absolute = str(tree / "data/set_b/water_2")
    assert names(absolute, tree / "elsewhere") == [absolute]
    monkeypatch.chdir(tree)
    assert names("data/set_b/water_2", None) == ["data/set_b/water_2"]
    assert names(absolute, None) == [absolute]
    assert len(names(str(tree / "data/set_b/*"), None)) == 2


def test_a_base_with_pattern_characters_is_taken_literally(tmp_path):
    write_system(tmp_path / "run[1]/data/water")
    assert names("data/*", tmp_path / "run[1]") == ["data/water"]
    assert names("data", tmp_path / "run[1]") == ["data/water"]


def test_links_to_systems_are_followed(tree):
    (tree / "linked").mkdir()
    (tree / "linked/here").symlink_to(tree / "data/set_b")
    assert names("linked", tree) == ["linked/here/water_10", "linked/here/water_2"]


@pytest.mark.parametrize("path", ["nowhere", "data/xyz", "data/*.npy", "/nowhere/at/all"])
def test_finding_nothing_says_what_was_looked_for(tree, path):
    with pytest.raises(InputError) as caught:
        open_systems([path], ("H", "C", "O"), tree)
    assert f"no data found at '{path}'" in str(caught.value)
    assert "type.raw" in str(caught.value)
    assert ".extxyz" in str(caught.value)
    assert (str(tree) in str(caught.value)) == (not path.startswith("/"))


@pytest.mark.parametrize("path", ["# data", "#data", "data#set_b", "data/set_b/water_2#x"])
def test_a_group_is_one_of_a_file(tree, path):
    """A comment in a list of systems is not the folder in which everything lies."""
    with pytest.raises(InputError, match="no data found at '"):
        names(path, tree)


def test_links_that_lead_in_a_circle(tree):
    (tree / "data" / "loop").symlink_to(tree / "data", target_is_directory=True)
    (tree / "data" / "set_a" / "again").symlink_to(tree / "data" / "set_b", target_is_directory=True)
    found = open_systems("data", ("H", "O"), tree)
    assert len({system.path.resolve() for system in found}) == len(found) == 3


def test_keys_that_no_file_has_are_refused(tree):
    """Data in DeePMD-kit's layout have names of their own, so the keys would play no part."""
    with pytest.raises(InputError, match=r"keys \(energy\) are for files that ASE reads"):
        open_systems("data/set_b", ("H", "O"), tree, reading=Reading({"energy": "REF_energy"}))


def test_an_empty_list_is_a_mistake():
    with pytest.raises(InputError, match="no data is named"):
        open_systems([], ("H",))


def test_types_are_the_models(tree):
    systems = open_systems(["data/set_b/water_2", "data/xyz/one.extxyz"], ("C", "H", "O"), tree)
    assert np.array_equal(systems[0].frame(0).types, [2, 1, 1])
    assert np.array_equal(systems[1].frame(0).types, [2, 1, 1])
    assert np.array_equal(systems[1].frame(1).types, [0, 1, 1, 1, 1])


def test_elements_in_the_data(tree):
    assert elements_in("data", tree) == ["H", "O"]
    assert elements_in(["data", "data/xyz/*"], tree) == ["C", "H", "O"]
    write_system(tree / "unnamed", type_map=None)
    assert elements_in("unnamed", tree) == []
    write_system(tree / "unused", types=(0, 0), type_map=("Fe", "Co"))
    assert elements_in("unused", tree) == ["Fe"]


def test_elements_of_mixed_systems_are_those_of_the_frames(tree):
    write_system(tree / "mixed", types=(0, 0, 0), type_map=("H", "C", "N"))
    np.save(tree / "mixed/set.000/real_atom_types.npy", np.tile([1, 2, -1], (4, 1)))
    assert elements_in("mixed", tree) == ["C", "N"]
