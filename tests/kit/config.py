"""Configurations of tests: from a path, and from text in hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pingap.config import load as module
from pingap.config.model import Snapshot
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of


def load(source: str | Path, **options: Any) -> Snapshot:
    """Of a file or directory. options: as for `config.load.load`."""
    return module.load(storage_of(source), **options)


def load_text(text: str, *, name: str = "pingap.toml", **options: Any) -> Snapshot:
    """`name` stands for the file in problems."""
    return module.load(MemoryStorage(text, name), **options)
