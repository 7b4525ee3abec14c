"""The model as a JSON Schema (draft 2020-12), for editors: what keys there are, what they mean, and what they may say.

It is a help while one writes, and no check: packed texts (addresses, rules, URLs) are just texts here, and what is taken
only for the sake of who migrates (lenient.py) is marked. `pingap check` has the last word.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pingap.config import model
from pingap.config.fields import Between, EachParsed, Parsed
from pingap.config.quantities import DURATION_SCHEMA, SIZE_SCHEMA
from pingap.config.storage.base import SINGLE
from pingap.config.values import ALPNS, DISCOVERIES, MODULES
from pingap.config.written import as_written

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}

_FORMS: Final[Mapping[str, Schema]] = {
    "cpu": {"type": "integer", "minimum": 0, "maximum": 1023},
    "discovery": {"enum": list(DISCOVERIES)},
    "duration": DURATION_SCHEMA,
    "limit": DURATION_SCHEMA,
    "size": SIZE_SCHEMA,
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "alpn": {"enum": list(ALPNS)},
    "module": {"enum": list(MODULES)},
    "levels": {"type": "string", "examples": ["debug", "info", "warn", "error", "off"]},
}
"""By the form that a marker of fields.py names; all others are texts."""

_PLAIN: Final[Mapping[Any, Schema]] = {bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"}, str: _TEXT}


def document(plugins: Mapping[str, Schema]) -> Schema:
    """The schema of a whole configuration. plugins: by category, that of their sections; what they refer to is in their `$defs`."""
    sections: Schema = {}
    for section, kind in model.KINDS.items():
        item = _item(kind)
        if section in SINGLE:
            sections[section] = item
        else:
            names = {"propertyNames": {"enum": list(model.STAGES)}} if section == "stages" else {}
            sections[section] = {"type": "object", "additionalProperties": item, **names}
    sections["plugins"] = {"type": "object", "additionalProperties": _plugin(plugins)}
    definitions = {name: schema for one in plugins.values() for name, schema in one.get("$defs", {}).items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pingap",
        "description": "The configuration of pingap.",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": definitions,
    }


def docs_of(kind: type) -> dict[str, str]:
    """What the texts below its attributes say of them, by attribute; those of its bases too."""
    return {name: text for one in reversed(kind.__mro__) for name, text in _docs_in(one).items()}


@cache
def _docs_in(kind: type) -> dict[str, str]:
    """Those in the class itself. To find its source takes 10 ms and more, and all plugins have the same bases."""
    try:
        [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return {}  # made at run time, or in C
    if not isinstance(body, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and (text := _text_of(after)):
            found[node.target.id] = " ".join(text.split())
    return found


def _text_of(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _item(kind: type) -> Schema:
    """One section of the model."""
    hints, docs = get_type_hints(kind, include_extras=True), docs_of(kind)
    properties: Schema = {}
    required = []
    for spec in fields(kind):
        properties[spec.name] = entry = dict(_of_type(hints[spec.name]))
        if spec.name in docs:
            restart = " A change needs a restart." if spec.metadata.get("restart") else ""
            entry["description"] = docs[spec.name] + restart
        if spec.default is MISSING and spec.default_factory is MISSING:
            required.append(spec.name)
        elif spec.default not in (MISSING, None):
            default = as_written(kind, spec.name, spec.default)
            if isinstance(default, str | int | float | list) and default not in ("", []):
                entry["default"] = default
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if kind.__doc__:
        schema["description"] = " ".join(kind.__doc__.split())
    return schema | ({"required": required} if required else {})


def _of_type(hint: Any) -> Schema:
    """Of a key, from its annotation in the model."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        for mark in marks:
            if isinstance(mark, Parsed):
                return _FORMS.get(mark.form, _TEXT)
            if isinstance(mark, EachParsed):
                return {"type": "array", "items": _FORMS.get(mark.form, _TEXT)}
            if isinstance(mark, Between):
                most = {"maximum": mark.high} if mark.high < 2**63 - 1 else {}
                return {"type": "integer", "minimum": mark.low, **most}
        return _of_type(inner)
    if get_origin(hint) in (Union, types.UnionType):
        [inner] = [one for one in get_args(hint) if one is not types.NoneType]
        return _of_type(inner)
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _of_type(get_args(hint)[0])}
    return _PLAIN[hint]


def _plugin(plugins: Mapping[str, Schema]) -> Schema:
    """A plugin: its category says which of the schemas is for it."""
    rules = []
    for category, schema in plugins.items():
        own = {key: value for key, value in schema.items() if key != "$defs"}
        rules.append({"if": {"properties": {"category": {"const": category}}, "required": ["category"]}, "then": own})
    return {
        "type": "object",
        "description": "[plugins.X]: what happens to a request or an answer on its way; named by locations.",
        "required": ["category"],
        "properties": {"category": {"enum": list(plugins), "description": "Which plugin this is."}},
        "additionalProperties": True,
        "allOf": rules,
    }
