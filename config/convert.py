"""A configuration as it is written, in one text of another language: for `--to-hcl`, `--to-kdl` and `--to-toml`.

Nothing is filled in, expanded or judged: `$ENV:NAME` and `includes` stay as they are. Comments cannot come along. What is
returned was read again and says the same.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.storage.base import SINGLE, Document, Storage
from pingap.config.text import hcl_writer, kdl_writer, toml
from pingap.config.text.blocks import WORDS
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
    found: dict[str, dict[str, Any]] = {}
    homes: dict[str, str] = {}
    problems: list[Problem] = []
    for document in storage.read().documents:
        tables = tables_of(document)
        if isinstance(tables, Problem):
            problems.append(tables)
            continue
        for section, table in tables.items():
            if section not in WORDS:
                problems.append(Problem(path_of(section), "unknown section", nearest(section, WORDS) or choices(WORDS), document.name))
            elif not isinstance(table, dict):
                problems.append(Problem(section, f"expected a table, got {describe(table)}", f"write [{section}]", document.name))
            else:
                for name, item in {"": table}.items() if section in SINGLE else table.items():
                    path = path_of(section, name) if name or section not in SINGLE else section
                    if path in homes:
                        problems.append(Problem(path, f"is in two files: {homes[path]} and {document.name}", "keep one"))
                    elif not isinstance(item, dict):
                        problems.append(Problem(path, f"expected a table, got {describe(item)}", f"write [{path}]", document.name))
                    elif section in SINGLE:
                        found[section] = item
                    else:
                        found.setdefault(section, {})[name] = item
                    homes[path] = document.name
    if problems:
        raise ConfigRefused(problems)
    return found
