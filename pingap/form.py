"""Which form of the code runs: Python as it is, or with the modules that mypyc has compiled (tools/native.py)."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent

LIBRARY: Final = "native__mypyc"
"""All of the compiled code: it is imported with the first of its modules."""

RECORD: Final = "native.json"
"""Written beside it: `{"mypyc": version, "sources": {path below `pingap`: SHA-256 of what was compiled}}`."""


class Form(NamedTuple):
    """What was found."""

    compiler: str
    """`mypyc 2.4.1`; "" for pure Python."""
    modules: int
    """How many are compiled."""

    @property
    def is_compiled(self) -> bool:
        return bool(self.compiler)

    def __str__(self) -> str:
        return f"{self.modules} modules compiled by {self.compiler}" if self.compiler else "pure Python"


@functools.cache
def form() -> Form:
    record = _record(HERE)
    return Form(f"mypyc {record['mypyc']}", len(record["sources"])) if record else Form("", 0)


def stale(here: Path = HERE) -> list[str]:
    """Sources, below `pingap`, that are no longer what was compiled: other code runs than one reads there."""
    sources: dict[str, str] = (_record(here) or {"sources": {}})["sources"]
    return [path for path, digest in sources.items() if digest_of(here / path) != digest]


def digest_of(path: Path) -> str:
    """Empty for a file that is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _record(here: Path) -> dict[str, Any] | None:
    if not any((here / f"{LIBRARY}{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
        return None  # or it is there for another Python
    try:
        found: dict[str, Any] = json.loads((here / RECORD).read_text())
    except (OSError, ValueError):
        return {"mypyc": "of an unknown version", "sources": {}}
    return found
