"""THE table of configuration languages, by the suffix of a document's name."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem, path_of
from pingap.config.storage.base import SINGLE, Document
from pingap.config.text import toml
from pingap.config.text.places import DEEPEST, is_too_deep, nested_at, path_of_larger, place_of

_ESCAPED_WORD: Final = re.compile(r"\\[uUx\s]")


def _hcl(name: str, text: str) -> dict[str, Any] | Problem:
    from pingap.config.text import hcl  # most have none, and need not wait for it

    return hcl.parse(name, text)


def _kdl(name: str, text: str) -> dict[str, Any] | Problem:
    from pingap.config.text import kdl

    return kdl.parse(name, text)


TOML: Final = ".toml"
HCL: Final = ".hcl"
KDL: Final = ".kdl"
FORMATS: Final[dict[str, Callable[[str, str], dict[str, Any] | Problem]]] = {TOML: toml.parse, HCL: _hcl, KDL: _kdl}
"""(name, text) of a document → its tables, or what is wrong with it."""


def tables_of(document: Document) -> dict[str, Any] | Problem:
    """The tables of a document; a name without a known suffix is taken for TOML, as `--conf` takes any file for it."""
    parse = FORMATS.get(os.path.splitext(document.name)[1], toml.parse)
    tables = parse(document.name, document.text)
    if isinstance(tables, dict) and is_too_deep(tables):
        return Problem(
            place_of(document.name, document.text, nested_at(document.text)), f"not taken: tables or lists nested more than {DEEPEST} deep"
        )
    if isinstance(tables, dict) and (place := path_of_larger(tables)):
        return Problem(document.name, f"not taken: {path_of(*place)} is a number of more than 64 bits")
    return tables


def is_toml(document: Document) -> bool:
    """Whether it is in the only language of which single items can be written."""
    return os.path.splitext(document.name)[1] not in (HCL, KDL)


def as_written(documents: Iterable[Document], section: str, is_whole: bool = False) -> dict[str, Any]:
    """The items of a section as far as they can be read, unchecked: for who must know of files that they name.

    is_whole: it raises ConfigRefused where a document that may have some cannot be read, or has something else there, or has it again.
    """
    found: dict[str, Any] = {}
    for document in documents:
        if not _may_have(section, document.text):
            continue
        tables = tables_of(document)
        items = tables.get(section) if isinstance(tables, dict) else None
        if is_whole and found and items and section in SINGLE:
            raise ConfigRefused([Problem(section, "is in two files", "keep one")])
        if isinstance(items, dict):
            found |= items
        elif is_whole and isinstance(tables, Problem):
            raise ConfigRefused([tables])
        elif is_whole and items is not None:
            raise ConfigRefused([Problem(section, "expected a table", f"write [{section}]")])
    return found


def _may_have(section: str, text: str) -> bool:
    """False when there is no such section for sure: to parse thousands of locations once more takes a second."""
    # HCL and KDL have a word for one item of a section, too; and a name in quotes may have escapes.
    return section.removesuffix("s") in text or _ESCAPED_WORD.search(text) is not None
