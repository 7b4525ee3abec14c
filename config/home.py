"""Paths as a configuration may write them: `~` is a home directory."""

from __future__ import annotations

import os

from pingap.config.problems import BadValue


def expanded(path: str) -> str:
    """The path with its `~` or `~name` filled in. Raises BadValue for what can be no path."""
    if "\0" in path:
        raise BadValue("a path cannot hold a NUL character")
    return os.path.expanduser(path)
