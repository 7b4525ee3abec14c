"""Writes the files of a new plugin, all of them or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pingap.config.problems import BadValue


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """texts: by name of the file. Raises BadValue where one is there already, OSError where they cannot be written."""
    if there := [name for name in texts if os.path.lexists(directory / name)]:
        raise BadValue(f"{', '.join(str(directory / name) for name in there)}: there already", "take another name, or another --dir")
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, text in texts.items():
            with open(directory / name, "x", encoding="utf-8") as file:
                written.append(directory / name)
                file.write(text)
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
