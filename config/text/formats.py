"""THE table of configuration languages, by the suffix of a document's name."""

from __future__ import annotations

import os.path
from collections.abc import Callable
from typing import Any, Final

from pingap.config.problems import Problem, path_of
from pingap.config.storage.base import Document
from pingap.config.text import toml
from pingap.config.text.places import DEEPEST, is_too_deep, nested_at, path_of_larger, place_of


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
