"""Configurations of tests: from a path, and from text in hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pingap.config import load as module
from pingap.config.model import Snapshot
from pingap.config.problems import Problem
from pingap.config.storage.base import Document
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of
from pingap.config.text.formats import tables_of


def load(source: str | Path, **options: Any) -> Snapshot:
    """Of a file or directory. options: as for `config.load.load`."""
    return module.load(storage_of(source), **options)


def load_text(text: str, *, name: str = "pingap.toml", **options: Any) -> Snapshot:
    """`name` stands for the file in problems."""
    return module.load(MemoryStorage(text, name), **options)


def read_text(language: str, text: str) -> dict[str, Any]:
    """The tables of a text, which stands for a file `x.LANGUAGE`."""
    found = tables_of(Document(f"x.{language}", text))
    assert isinstance(found, dict), found
    return found


def problem_of(language: str, text: str) -> Problem:
    """What is wrong with such a text."""
    found = tables_of(Document(f"x.{language}", text))
    assert isinstance(found, Problem), found
    return found
