"""Run DeePMD-kit's own tests of its JAX DPA-1 descriptors on dpax's classes.

    git clone --depth 1 --branch v3.2.0 https://github.com/deepmodeling/deepmd-kit
    python tests/peer/run_deepmd_tests.py deepmd-kit

The tests compare `DescrptDPA1` of `deepmd.jax.descriptor.dpa1` and `DescrptSeAttenV2` of
`deepmd.jax.descriptor.se_atten_v2` with DeePMD-kit's NumPy classes: built by one and read by the other, the
values agree to 1e-10 (float64) and so do the serialised settings; written and read again, nothing changes.
Here the two names stand for dpax's classes. `--theirs` runs the same on DeePMD-kit's own.

DeePMD-kit's tests vary mostly one option at a time. `--more N` adds N random combinations of the same options
to each file.

Needs an environment with dpax and deepmd-kit; the checkout is not changed.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = ("test_dpa1.py", "test_se_atten_v2.py")
FOLDER = Path("source/tests/consistent/descriptor")
# What `--more` combines, by the names that the tests give their fields.
CHOICES = {
    "tebd_dim": [4, 8],
    "tebd_input_mode": ["concat", "strip"],
    "resnet_dt": [True, False],
    "type_one_side": [True, False],
    "attn_layer": [0, 1, 2],
    "attn_dotr": [True, False],
    "excluded_types": [[], [[0, 1]], [[1, 1]]],
    "env_protection": [0.0, 1e-3],
    "set_davg_zero": [True, False],
    "scaling_factor": [1.0, 0.5],
    "normalize": [True, False],
    "temperature": [None, 1.0, 0.7],
    "ln_eps": [1e-5, 1e-3],
    "smooth_type_embedding": [True, False],
    "concat_output_tebd": [True, False],
    "precision": ["float64", "float32"],
    "use_econf_tebd": [True, False],
    "use_tebd_bias": [True, False],
}


def main() -> int:
    """Run the tests and return pytest's exit code."""
    options = _arguments()
    _add_random_cases(options.checkout, options.more, options.seed)
    if not options.theirs:
        _put_dpax_in_place()
    print("tested:", "DeePMD-kit's own classes" if options.theirs else "dpax's classes", flush=True)
    files = [str(options.checkout / FOLDER / name) for name in FILES]
    quiet = ["-q", "-rsfE", "--disable-warnings", "-p", "no:cacheprovider"]
    alone = ["-c", "/dev/null", "--rootdir", str(options.checkout)]
    return pytest.main([*files, "-k", options.select, *quiet, *alone, *options.pytest_options])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="folder of a DeePMD-kit checkout")
    parser.add_argument("--theirs", action="store_true", help="test DeePMD-kit's classes instead of dpax's")
    parser.add_argument(
        "--more", type=int, default=0, metavar="N", help="random combinations added to each file"
    )
    parser.add_argument("--seed", type=int, default=0, help="which random combinations")
    parser.add_argument("--select", default="jax", help="which tests, as pytest's -k (default: jax)")
    options, options_left = parser.parse_known_args()
    options.pytest_options = options_left
    options.checkout = options.checkout.resolve()
    if not (options.checkout / FOLDER / FILES[0]).is_file():
        parser.error(
            f"{options.checkout} holds no {FOLDER / FILES[0]}: give the folder of a DeePMD-kit checkout"
        )
    return options


def _put_dpax_in_place() -> None:
    """Let the names that the tests import stand for dpax's classes."""
    import deepmd.jax.descriptor.dpa1
    import deepmd.jax.descriptor.se_atten_v2

    import dpax.deepmd

    deepmd.jax.descriptor.dpa1.DescrptDPA1 = dpax.deepmd.DescrptDPA1
    deepmd.jax.descriptor.se_atten_v2.DescrptSeAttenV2 = dpax.deepmd.DescrptSeAttenV2


def _add_random_cases(checkout: Path, count: int, seed: int) -> None:
    """Let the decorator that makes test classes from cases make `count` more of them."""
    sys.path.insert(0, str(checkout / "source"))
    import tests.consistent.common as common

    original: Callable = common.parameterized_cases

    def with_more(*cases: tuple) -> Callable:
        def decorate(test_class: type) -> object:
            fields = _field_names(sys.modules[test_class.__module__], len(cases[0]))
            draw = random.Random(seed)
            extra = [
                tuple(_draw(name, cases[0][i], draw) for i, name in enumerate(fields)) for _ in range(count)
            ]
            return original(*cases, *extra)(test_class)

        return decorate

    common.parameterized_cases = with_more


def _draw(name: str, usual: object, draw: random.Random) -> object:
    return draw.choice(CHOICES.get(name, [usual]))


def _field_names(module: object, length: int) -> tuple[str, ...]:
    for name, value in vars(module).items():
        if name.endswith("_CASE_FIELDS") and len(value) == length:
            return value
    raise RuntimeError(f"{module} does not name the fields of its cases: this checkout differs from v3.2.0")


if __name__ == "__main__":
    sys.exit(main())
