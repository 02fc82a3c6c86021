"""What the benchmarks make of times and of devices. The workers themselves: tests/test_documentation.py."""

import io
import json
import re
import sys
from importlib.metadata import requires, version
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.geometry.skin import SKIN

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import comparisons  # noqa: E402
import environments  # noqa: E402
import lammps_ranks  # noqa: E402
import provenance  # noqa: E402
import run  # noqa: E402
import structures  # noqa: E402
import table  # noqa: E402
import workers  # noqa: E402
from case import UnavailableError  # noqa: E402
from comparisons import AIMS, DPAX, FULL, JAX, PYTORCH, TINY, Comparison, Entry  # noqa: E402
from measured import Measured  # noqa: E402

CPU = {"kind": "cpu", "devices": ["cpu"], "threads": 2, "settings": {}, "versions": {"jax": "0.10"}}
GPU = {**CPU, "kind": "gpu", "devices": ["NVIDIA H100"]}


def measured(turns, ready=None, entries=None):
    """A comparison whose times are given, on a tiny model."""
    entries = entries or [Entry(name, name.split()[0], "forces") for name in turns]
    cases = {entry.name: entry.case(TINY, "folder") for entry in entries}
    comparison = Comparison("forces", "E + F + virial", entries, 1)
    return Measured(comparison, cases, turns, ready or {name: {"seconds": 1.0} for name in turns})


# ---- times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "fill", "number"), [(0.008, 0.3, 38), (0.5, 0.3, 1), (0.1, 0.0, 1)])
def test_turn_is_filled(monkeypatch, call, fill, number):
    clock = iter(range(1000))
    monkeypatch.setattr(workers.time, "perf_counter", lambda: call * ((next(clock) + 1) // 2))
    done = []
    seconds = workers.calls(lambda: done.append(None), fill)
    assert len(seconds) == len(done) == number
    assert seconds == pytest.approx([call] * number)


def test_call_that_wakes_a_processor_does_not_count():
    one = measured(
        {DPAX: [[0.5, 0.01, 0.01], [0.02, 0.01, 0.01]], PYTORCH: [[0.9, 0.03, 0.03], [0.04, 0.04, 0.04]]}
    )
    assert one.seconds(DPAX) == [0.01, 0.01]
    assert one.ratio(DPAX, PYTORCH) == pytest.approx(3.5)
    assert one.quartiles(DPAX) == pytest.approx((0.01, 0.0175))
    assert one.record()["entries"][DPAX]["seconds"] == one.turns[DPAX]


@given(st.floats(1e-7, 1e5))
def test_times_have_four_digits(seconds):
    text = table.milliseconds(seconds)
    assert float(text) == pytest.approx(1e3 * seconds, rel=5.1e-4)
    assert re.fullmatch(r"[\d.]+", text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0.4000"), (0.00841, "8.410"), (0.422, "422.0"), (8.02512, "8025")]
)
def test_times_as_they_are_printed(seconds, text):
    assert table.milliseconds(seconds) == text


# ---- what is compared --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_what_only_gpus_can_is_left_to_them(kind):
    entries = [entry for one in FULL for entry in one.on(kind).entries]
    special = [entry for entry in entries if entry.tf32 or entry.gpu]
    assert bool(special) == (kind == "gpu")
    assert all(entry.on("gpu") for entry in entries)


def test_aims_are_about_entries():
    by_name = {one.name: one for one in FULL}
    for aim in AIMS:
        names = {entry.name for entry in by_name[aim.comparison].entries}
        assert {aim.own, aim.peer} <= names, aim.what


def test_torchscript_has_compiled_before_it_is_timed():
    for comparison in FULL:
        for entry in comparison.entries:
            if entry.side == PYTORCH:
                assert entry.case(TINY, "")["warm_up"] >= 3


def test_bars_are_shown_for_cpus_alone():
    one = measured({"dpax float32": [[0.01]], "deepmd-pytorch float32": [[0.05]]})
    row = "| energy + forces + virial, 192 atoms, against PyTorch (`.pth`) | 10.00 ms | 50.00 ms | 5.00 |"
    assert f"{row} ≥ 3.3 | ≥ 4 |" in table.aims([one], [], bars=True)
    assert f"{row} – | – |" in table.aims([one], [], bars=False)


def test_share_of_a_product_is_that_of_its_own_arithmetic():
    names = ["dpax float32", "deepmd-jax float32, TF32", "gemm float32", "gemm float32, TF32"]
    entries = [Entry(name, name.split()[0], "forces", tf32="TF32" in name) for name in names]
    ready = {name: {"flops": 1e9} for name in names[2:]} | {names[0]: {"slots": 8}, names[1]: {}}
    one = measured({name: [[0.01]] for name in names}, ready, entries)
    assert [one.roof(name) for name in names[:2]] == names[2:]


@pytest.mark.parametrize("dynamics", [False, True])
def test_places(dynamics):
    water = structures.water_box(8)
    first, *others = islice(structures.places(water, dynamics), 4)
    assert (first == water.positions).all()
    for before, after in zip([first, *others], others, strict=False):
        moved = np.linalg.norm(after - before, axis=1)
        if dynamics:
            np.testing.assert_allclose(moved, 0.01)
        else:
            assert (moved > SKIN).all()


# ---- sides and devices -------------------------------------------------------------------------------------


def test_sides_can_be_chosen():
    parse = run.make_parser().parse_args
    assert set(run.pythons_of(parse(["--full", "--torch-python", "python3"]))) == set(comparisons.SIDES)
    assert set(run.pythons_of(parse([]))) == set(comparisons.SIDES) - {PYTORCH}
    chosen = parse(["--full", "--sides", PYTORCH, "--torch-python", sys.executable])
    assert run.pythons_of(chosen) == {DPAX: sys.executable, PYTORCH: sys.executable}


def test_named_python_is_found_from_any_folder(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    assert environments.named_python("bin/python") == str(tmp_path / "bin" / "python")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert environments.named_python("python") == str(tmp_path / "bin" / "python")
    with pytest.raises(SystemExit, match="no program bin/other"):
        environments.named_python("bin/other")


@pytest.mark.parametrize(
    ("reports", "search", "words"),
    [
        ({DPAX: CPU, PYTORCH: CPU}, "VesinNeighborList", []),
        (
            {DPAX: GPU, PYTORCH: CPU},
            "VesinNeighborList",
            [["deepmd-pytorch computes on the CPU, dpax on 1 GPU"]],
        ),
        ({DPAX: CPU, JAX: GPU}, "VesinNeighborList", [["deepmd-jax computes on 1 GPU, dpax on the CPU"]]),
        (
            {DPAX: {**GPU, "devices": ["NVIDIA H100"] * 2}, PYTORCH: GPU},
            "VesinNeighborList",
            [["deepmd-pytorch computes on 1 GPU, dpax on 2 GPUs"]],
        ),
        (
            {DPAX: CPU, PYTORCH: {**CPU, "settings": {"operators": "missing"}}},
            "V",
            [["operators", "compressed"]],
        ),
        ({DPAX: CPU, PYTORCH: CPU}, None, [["all pairs", "vesin-torch"]]),
    ],
)
def test_unfair_comparisons_are_said_first(reports, search, words):
    ready = {DPAX: {"slots": 8, "seconds": 1.0}, PYTORCH: {"neighbor_search": search, "seconds": 1.0}}
    one = measured({name: [[0.01]] for name in ready}, ready)
    warnings = list(provenance.warnings(reports, [one]))
    assert len(warnings) == len(words)
    for warning, expected in zip(warnings, words, strict=True):
        assert all(word in warning for word in expected)
    text = run.report([one], {}, {}, reports, 1.0)
    assert text.startswith("**Mind: ") == bool(words)


def test_report_says_what_ran_on_what():
    torch = {
        **CPU,
        "settings": {"operators": "loaded"},
        "versions": {"torch": "2.11.0", "vesin-torch": "0.6.2"},
    }
    ready = {DPAX: {"seconds": 1.0}, PYTORCH: {"neighbor_search": "VesinNeighborList", "seconds": 1.0}}
    one = measured({name: [[0.01]] for name in ready}, ready)
    peaks = {"dpax, 12,288 atoms": {"host_peak": 2e9, "device_peak": 7e8}}
    text = run.report([one], peaks, {}, {DPAX: {**CPU, "devices": ["cpu", "cpu"]}, PYTORCH: torch}, 1.0)
    assert "- dpax: 2 × cpu, 2 processor threads; jax 0.10" in text
    expected = (
        "1 × cpu, 2 processor threads; operators loaded, neighbours by VesinNeighborList; torch 2.11.0, "
    )
    assert f"- deepmd-pytorch: {expected}vesin-torch 0.6.2" in text
    assert "dpax, 12,288 atoms 0.70 GB of the GPU, 2.00 GB of the host" in text


def test_page_is_kept_free_of_gpus(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("\n".join(run.MARKERS))
    monkeypatch.setattr(run, "Benchmark", lambda *_: SimpleNamespace(reports={DPAX: GPU}))
    monkeypatch.setattr(sys, "argv", ["run.py", "--page", str(page)])
    with pytest.raises(SystemExit, match="here is a GPU: use --json"):
        run.main()
    assert page.read_text() == "\n".join(run.MARKERS)


def test_environment_is_the_one_that_users_have():
    assert version("deepmd-kit") == environments.DEEPMD
    extra = [line.split(";")[0] for line in requires("deepmd-kit") or [] if 'extra == "torch"' in line]
    assert f"torch=={environments.BUILT_FOR}" in {line.strip() for line in extra}
    assert environments.requirements(environments.BUILT_FOR)[0] == f"deepmd-kit[torch]=={environments.DEEPMD}"
    other = environments.requirements("2.10.0")
    assert "torch==2.10.0" in other
    assert "vesin[torch]" in other


def test_programs_are_found_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="lmp is neither beside"):
        lammps_ranks.program("lmp")
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "lmp").touch(mode=0o755)
        assert lammps_ranks.program("lmp") == str(folder / "lmp")


# ---- the worker --------------------------------------------------------------------------------------------


def test_worker_answers_every_line(monkeypatch):
    done, released = [], []

    def prepare(case):
        def repetition():
            if case["file"] == "too large":
                raise UnavailableError("no room")
            done.append(case["file"])
            return {"loss": 1.0}

        return repetition, {"slots": 8}

    device = SimpleNamespace(
        report=lambda: {"kind": "gpu"}, peak=lambda: 7, release=lambda: released.append(1)
    )
    modules = {"a_side": SimpleNamespace(prepare=prepare), "a_device": device}
    monkeypatch.setattr(workers, "import_module", modules.get)
    monkeypatch.setitem(workers.SIDES, "a", ("a_side", "a_device", ("numpy", "no-such-package")))
    requests = [
        {"report": True},
        {"prepare": {"file": "small", "warm_up": 3}, "name": "small"},
        {"prepare": {"file": "too large", "warm_up": 0}, "name": "large"},
        {"run": "small", "fill": 0.0},
        {"forget": True},
    ]
    reply = io.StringIO()
    workers.serve("a", io.StringIO("\n".join(map(json.dumps, requests))), reply)
    report, small, large, turn, _ = map(json.loads, reply.getvalue().splitlines())
    assert report["kind"] == "gpu"
    assert report["versions"] == {"numpy": np.__version__}
    assert (small["slots"], small["result"], small["device_peak"]) == (8, {"loss": 1.0}, 7)
    assert large["unavailable"] == "no room"
    assert len(turn["calls"]) == 1
    assert done == ["small"] * 5
    assert released == [1]
