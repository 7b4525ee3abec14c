"""A section of a plugin becomes its settings, or it is told all that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from pingap.config.problems import BadValue, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.stages.plugins.api import Settings


class PluginRefused(Exception):
    """A section cannot be used; `problems` says why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def keys_of(model: type[Settings]) -> list[str]:
    return [spec.alias or key for key, spec in model.model_fields.items()]


def validated(path: str, model: type[Any], section: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(section)
    except ValidationError as error:
        wrongs = error.errors(include_url=False, include_input=True)
    raise PluginRefused([_explained(path, model, wrong) for wrong in wrongs])


def what_is_right(model: type[Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the model knows, with values that it takes."""
    try:
        model.model_validate(section)
    except ValidationError as error:
        wrong = {place["loc"][0] for place in error.errors(include_url=False, include_input=False, include_context=False) if place["loc"]}
    else:
        wrong = set()
    return {key: value for key, value in section.items() if key not in wrong}


def _explained(path: str, model: type[Settings], wrong: Any) -> Problem:
    """A validation error in the words of config/load.py."""
    loc, context, value = wrong["loc"], wrong.get("ctx", {}), wrong["input"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{path_of(part)}" for part in loc)
    at = path + place
    got = describe(value)
    match wrong["type"]:
        case "missing":
            return Problem(at, "the key is required")
        case "extra_forbidden":
            known = keys_of(model)
            return Problem(at, "unknown key", nearest(str(loc[-1]), known) or choices(sorted(known)))
        case "value_error":
            cause = context.get("error")
            return Problem(at, cause.message, cause.hint) if isinstance(cause, BadValue) else Problem(at, str(cause))
        case "greater_than_equal":
            return Problem(at, f"must be at least {context['ge']}, got {got}")
        case "less_than_equal":
            return Problem(at, f"must be at most {context['le']}, got {got}")
        case "literal_error":
            words = re.findall(r"'([^']*)'|(\d+)", str(context["expected"]))
            names = [text or number for text, number in words]
            return Problem(at, f"expected {choices(names)}; got {got}", nearest(value, names) if isinstance(value, str) else "")
        case "too_short" | "string_too_short":
            return Problem(at, "must not be empty")
    wanted = _WANTED.get(wrong["type"])
    return Problem(at, f"expected {wanted}, got {got}" if wanted else wrong["msg"])


_WANTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
}
