"""The structures in a code's output whose electronic loop did not converge.

The readers of ASE take such structures like any other. Energies and forces of a loop that ran out of
iterations can be wrong by any amount, so the outputs are looked through once more, by the words with which
each code ends a loop.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Words(NamedTuple):
    """What a code writes about an electronic loop."""

    end: str
    """Text at the end of each loop, or after it, whether it converged or not."""
    failed: str
    """Text within a loop that did not converge, or after the last one."""


_WORDS = {
    "gaussian": _Words(r"SCF Done:", r"Convergence criterion not met|Convergence failure"),
    "espresso": _Words(
        r"convergence has been achieved in|convergence NOT achieved", r"convergence NOT achieved"
    ),
    "qe": _Words(r"convergence has been achieved in|convergence NOT achieved", r"convergence NOT achieved"),
    "orca": _Words(
        r"SCF (?:NOT )?CONVERGED AFTER", r"SCF NOT CONVERGED AFTER|Wavefunction not fully converged"
    ),
    "nwchem": _Words(r"Total (?:SCF|DFT) energy", r"Calculation failed to converge"),
    "castep": _Words(
        r"Final (?:free )?energy.*=",
        r"SCF cycles performed but system has not reached the groundstate",
    ),
    "gpaw": _Words(r"Converged after|Did not converge!", r"Did not converge!"),
    "gamess": _Words(r"FINAL \S+ ENERGY IS", r"SCF IS UNCONVERGED"),
    "siesta": _Words(r"SCF cycle converged|SCF_NOT_CONV", r"SCF_NOT_CONV"),
    "psi4": _Words(r"Energy (?:and wave function )?converged|did not converge", r"did not converge"),
    "dftb": _Words(r"Total Energy:", r"SCC is NOT converged"),
}
"""The texts of each code, by the first word of the name of its format in ASE or dpdata."""


def is_known(form: str) -> bool:
    """Whether `unconverged` knows the output of the code of a format."""
    return form in _VASP or _code(form) in _WORDS


def _code(form: str) -> str:
    return re.split(r"[-/]", form)[0]


def unconverged(path: Path, form: str, structures: int) -> list[int]:
    """The structures of an output whose electronic loop did not converge.

    Args:
        path: the output, not compressed.
        form: the name of its format in ASE or dpdata: `vasp-out`, `gaussian/log`, …
        structures: how many the file has.

    Returns:
        Indices. If the loops that failed cannot be identified, because the file has another number
        of loops than of structures, all of them.
    """
    if form in _VASP:
        # Steps are read in their order, perhaps without the last, which VASP had not finished.
        loops = list(_VASP[form](path))[:structures]
    else:
        words = _WORDS.get(_code(form))
        loops = [] if words is None else _loops(path.read_text(encoding="utf-8", errors="replace"), words)
    failed = [number for number, converged in enumerate(loops) if not converged]
    if failed and form not in _VASP and len(loops) != structures:
        return list(range(structures))
    return failed


def _loops(text: str, words: _Words) -> list[bool]:
    """Whether each loop converged."""
    ends = [match.end() for match in re.finditer(words.end, text)]
    failures = [match.start() for match in re.finditer(words.failed, text)]
    if not ends:
        return [False] if failures else []
    failed = {min(sum(end < place for end in ends), len(ends) - 1) for place in failures}
    return [number not in failed for number in range(len(ends))]


def _vasprun_loops(path: Path) -> Iterator[bool]:
    """Whether each ionic step took fewer electronic steps than allowed."""
    most, steps = 60, 0  # VASP's default of NELM
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "i" and element.get("name") == "NELM" and element.text:
                most = int(element.text)
            elif element.tag == "scstep":
                steps += 1
            elif element.tag == "calculation":
                yield steps == 0 or steps < most
                steps = 0
                element.clear()
    except ElementTree.ParseError:
        return  # a file that a running or killed VASP leaves: ASE reads it as far as it goes


_ITERATION = re.compile(r"-+ Iteration\s+\d+\(\s*(\d+)\s*\)")
_NELM = re.compile(r"\bNELM\s*=\s*(\d+)")


def _outcar_loops(path: Path) -> Iterator[bool]:
    """Whether each ionic step reports the end of its loop, or took fewer electronic steps than allowed.

    A step of VASP's machine-learned force field has no loop.
    """
    most, steps, ended = 60, 0, None
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if "Iteration" in line and (iteration := _ITERATION.search(line)):
                steps = int(iteration[1])
            elif "NELM" in line and (limit := _NELM.search(line)):
                most = int(limit[1])
            elif "aborting loop" in line:
                ended = "not reached" not in line
            elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                yield (steps == 0 or steps < most) if ended is None else ended
                steps, ended = 0, None


_VASP = {
    **dict.fromkeys(("vasp-xml", "vasp/xml", "xml"), _vasprun_loops),
    **dict.fromkeys(("vasp-out", "vasp/outcar", "outcar"), _outcar_loops),
}
