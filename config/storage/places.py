"""Which storage a `--conf` value names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from pingap.config.problems import ConfigRefused, Problem, choices, nearest
from pingap.config.storage.base import Storage
from pingap.config.storage.etcd.address import is_etcd
from pingap.config.storage.file import FileStorage
from pingap.config.storage.memory import MemoryStorage

EMBEDDED = "the embedded one"
"""The document of a configuration that is in no file, in problems."""

_OF_FILES: Final = ("separation", "enable_history")
"""`false` is off, as is not to say it; all else is on, as there."""


def storage_of(source: str | Path | None, text: str | None = None) -> Storage:
    """A file or directory, `~` being the home directory; etcd; None is `text`. Raises ConfigRefused for what is none of these."""
    if source is None:
        return MemoryStorage(text or "", EMBEDDED)
    written = str(source)
    if is_etcd(written):
        from pingap.config.storage.etcd.storage import EtcdStorage

        return EtcdStorage(written)
    if "://" in written:
        scheme = written.partition("://")[0]
        raise ConfigRefused([Problem(f"{scheme}://…", "no such storage of configurations", "a file, a directory, etcd:// or etcds://")])
    path, _, query = written.partition("?")
    asked, problems = options_of(query, _OF_FILES)
    if problems:
        raise ConfigRefused(problems)
    return FileStorage(
        path, is_separate=asked.get("separation", "false") != "false", has_history=asked.get("enable_history", "false") != "false"
    )


def options_of(query: str, known: Collection[str]) -> tuple[dict[str, str], list[Problem]]:
    """What a source says behind its `?`, and a problem for each name that nobody knows."""
    asked = dict(parse_qsl(query, keep_blank_values=True))
    return asked, [
        Problem(f"?{name}", "no such option of a configuration's place", nearest(name, known) or choices(known))
        for name in asked
        if name not in known
    ]
