"""The names of the files in a run's folder, which settings may not use."""

import unicodedata
from fnmatch import fnmatchcase

INPUT = "input.json"
LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"
STATISTICS = "statistics.json"
DATA = "data.json"
PROFILE = "profile"
LOCK = ".lock"

_RESERVED = (INPUT, LOG, CHECKPOINTS, STATISTICS, DATA, PROFILE, "*.dpax", "*.tmp", ".*", "dpax-error-*.log")
"""The above, models, temporary files, and the details of a failure, as patterns."""


def is_reserved(name: str) -> bool:
    """Whether a run has files of such a name, or cannot have one."""
    plain = comparable(name)
    return not plain or any(fnmatchcase(plain, pattern) for pattern in _RESERVED)


def comparable(name: str) -> str:
    """A spelling that two names share if any file system takes them for one file.

    Some ignore case or the ways of writing an accent; Windows drops blanks and full stops at the end.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip(". ")
