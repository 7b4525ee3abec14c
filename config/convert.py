"""A configuration as it is written, in one text of another language: for `--to-hcl`, `--to-kdl` and `--to-toml`.

Nothing is filled in, expanded or judged: `$ENV:NAME` and `includes` stay as they are. Comments cannot come along. What is
returned was read again and says the same.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from typing import Any, Final

from pingap.config.gathering import gathered, no_table
from pingap.config.problems import ConfigRefused, Problem, path_of
from pingap.config.storage.base import SINGLE, Document, Storage
from pingap.config.text import hcl_writer, kdl_writer, toml
from pingap.config.text.formats import tables_of

WRITERS: Final[Mapping[str, Callable[[Mapping[str, Mapping[str, Any]]], str]]] = {
    "hcl": hcl_writer.written,
    "kdl": kdl_writer.written,
    "toml": toml.written,
}
"""By the suffix of a document, without its dot."""


def converted(storage: Storage, language: str) -> str:
    """Raises ConfigRefused for what cannot be read, and for what the language has no form for."""
    tables = _tables(storage)
    text = WRITERS[language](tables)
    again = tables_of(Document(f"converted.{language}", text))
    if _exactly(again) != _exactly(tables):
        raise ConfigRefused([Problem(os.path.basename(storage.base), f"cannot be written as {language.upper()} without a change")])
    return text


def _exactly(value: Any) -> Any:
    """For comparing: true is not 1, a number that is not one is itself, and the order of keys says nothing."""
    if isinstance(value, dict):
        return {key: _exactly(inner) for key, inner in value.items()}
    return [_exactly(inner) for inner in value] if isinstance(value, list) else repr(value)


def _tables(storage: Storage) -> dict[str, dict[str, Any]]:
    """All documents together."""
    together = gathered(storage.read().documents)
    problems = together.problems + [
        no_table(path, item, together.origins[path])
        for section, table in together.tables.items()
        if section not in SINGLE
        for name, item in table.items()
        if not isinstance(item, dict) and (path := path_of(section, name))
    ]
    if problems:
        raise ConfigRefused(problems)
    return together.tables
