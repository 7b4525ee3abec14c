"""Where the code of a Python module is, without running any: importlib's own find_spec("a.b") imports `a`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec


def origin(name: str) -> str | None:
    """The file of the module `name` as Python would import it, None when there is none. Raises what a finder of somebody else raises."""
    path: Sequence[str] | None = None
    parts = name.split(".")
    if not all(parts):
        return None
    for index, part in enumerate(parts):
        try:
            spec = _find(".".join(parts[: index + 1]), path)
        except KeyError:  # a directory without __init__.py asks its package for its place, and that one is not imported
            path = [inner for folder in path or () if os.path.isdir(inner := os.path.join(folder, part))]
            continue
        if spec is None:
            return None
        if index == len(parts) - 1:
            return spec.origin if spec.has_location else None
        if spec.submodule_search_locations is None:
            return None
        path = list(spec.submodule_search_locations)
    return None


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if (find := getattr(finder, "find_spec", None)) is not None and (spec := find(name, path)) is not None:
            found: ModuleSpec = spec
            return found
    return None
