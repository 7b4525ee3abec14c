"""Values of another type than a plugin's model has, taken as they are meant: `"6"` for 6, `"true"` for true, 5 for `"5"`.

The reference takes each such value for one that is absent. It is done only for plugins that guard nothing: what keeps
somebody out is refused instead, for it must never keep out fewer than its author thinks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from pingap.config.problems import Note, path_of
from pingap.config.quantities import describe

GUARDLESS: Final = frozenset(
    ("accept_encoding", "cache", "compression", "directory", "image_optim", "mock", "ping")
    + ("redirect", "request_id", "response_headers", "stats", "sub_filter", "traffic_splitting")
)
"""Categories of plugins that let every request pass that another lets pass."""

RENAMED: Final = {"stats": {"value": "path"}}
"""Category → a key that the reference's own example files have and nobody reads → the key that it stands for."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")


def meant(path: str, model: type[Any], section: dict[str, Any]) -> Iterator[Note]:
    """Changes in `section`, of a plugin that guards nothing, what can be taken as it is meant, and tells it. path: of the section."""
    try:
        model.model_validate(section)
    except ValidationError as error:
        wrongs = error.errors(include_url=False, include_input=True, include_context=False)
    else:
        return
    for wrong in wrongs:
        value = _converted(wrong["type"], wrong["input"])
        if value is None or len(wrong["loc"]) != 1:
            continue
        key = str(wrong["loc"][0])
        written, section[key] = section[key], value
        # A line of a list may be a header that is nobody's business.
        said = "a text is taken for a list of one" if isinstance(value, list) else f"{describe(written)} is taken for {describe(value)}"
        yield Note(f"{path}.{path_of(key)}", said, "pingap 0.13.9 takes it for nothing")


def renamed(path: str, category: str, section: dict[str, Any]) -> Iterator[Note]:
    """The same for keys of other names. path: of the section."""
    for written, key in RENAMED.get(category, {}).items():
        if written not in section:
            continue
        value = section.pop(written)
        if key in section:
            yield Note(f"{path}.{written}", f"has no effect: {key!r} is there too")
        else:
            section[key] = value
            yield Note(f"{path}.{written}", f"is taken for {key!r}", "pingap 0.13.9 reads no such key, so that this never answers there")


def _converted(error: str, value: Any) -> Any:
    """What a value of another type means; None where that is not clear."""
    match error, value:
        case "int_type" | "float_type", str() if _NUMBER.fullmatch(value.strip()):
            return int(value)
        case "bool_type", str() if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case "string_type", bool():
            return str(value).lower()
        case "string_type", int() | float():
            return str(value)
        case "list_type", str() if value.strip():
            return [value]
    return None
