"""Which storage a `--conf` value names."""

from __future__ import annotations

from pathlib import Path

from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import Storage
from pingap.config.storage.file import FileStorage
from pingap.config.storage.memory import MemoryStorage

EMBEDDED = "the embedded one"
"""The document of a configuration that is in no file, in problems."""


def storage_of(source: str | Path | None, text: str | None = None) -> Storage:
    """A file or directory, `~` being the home directory; None is `text`. Raises ConfigRefused for what is not there yet."""
    if source is None:
        return MemoryStorage(text or "", EMBEDDED)
    written = str(source)
    if "://" in written:
        scheme = written.partition("://")[0]
        raise ConfigRefused([Problem(written, f"not supported yet: configuration in {scheme}", "give a file or directory")])
    path, _, query = written.partition("?")
    named = [part.partition("=") for part in query.split("&") if part]
    if wrong := [name for name, _, _ in named if name != "separation"]:
        raise ConfigRefused([Problem(path, f"not supported yet: {name!r}") for name in wrong])
    return FileStorage(path, is_separate=any(value != "false" for _, _, value in named))
