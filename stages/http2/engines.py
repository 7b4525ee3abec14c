"""The engines by name, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from pingap.stages.http2.engine import Http2Engine, LocalSettings

NAMES: Final = ("h2", "ngh2")
DEFAULT: Final = "h2"

MakeEngine = Callable[[bool, LocalSettings], Http2Engine]
"""(is_client, settings) → an engine for one connection."""


def is_installed(name: str) -> bool:
    return find_spec(name) is not None


def engine(name: str) -> MakeEngine:
    """Raises ImportError when the engine's library is not installed."""
    if name == "ngh2":
        from pingap.stages.http2.ngh2_engine import Ngh2Engine

        return Ngh2Engine
    if name == "h2":
        from pingap.stages.http2.h2_engine import H2Engine

        return H2Engine
    raise ValueError(f"no HTTP/2 engine is called {name!r}")
