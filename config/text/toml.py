"""TOML 1.0 to tables."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from pingap.config.problems import Problem

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse(name: str, text: str) -> dict[str, Any] | Problem:
    """The tables of a document, or why there are none. name: of the document."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _problem(name, text, str(error))


def _problem(name: str, text: str, error: str) -> Problem:
    place = _PLACE.search(error)
    message = error[: place.start()] if place else error
    if place and place[1]:
        return Problem(f"{name}:{place[1]}:{place[2]}", f"not TOML: {message}")
    last = text.count("\n") + 1
    column = len(text) - text.rfind("\n")
    return Problem(f"{name}:{last}:{column}", f"not TOML: {message} at the end of the file")
