"""What all tests share: float64, two host devices, compiled programs, and where real data may lie."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent

# DPAX_TEST_PLATFORM=cuda,cpu runs them on a GPU, where those that need two devices or compare bits fail.
jax.config.update("jax_platforms", os.environ.get("DPAX_TEST_PLATFORM", "cpu"))
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
# Neither a number of another type nor a missing axis is added to an array without being asked for.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
os.environ["DPAX_CACHE"] = str(ROOT / ".pytest_cache" / "dpax")  # of the commands that tests run

if hasattr(signal, "SIGHUP"):
    # Under nohup the commands that tests run would inherit that it is ignored, and rightly not stop.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Compilation makes the first example slow; no test depends on timing.
hypothesis.settings.register_profile("dpax", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("dpax")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A folder of DFT data by name; the test is skipped where it is absent, as on a user's machine."""
    root = Path(os.environ.get("DPAX_TEST_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"no real data {name} (set DPAX_TEST_DATA to a folder that has it)")
        return path

    return find
