"""What there is to say of each plugin: its steps, keys, defaults and texts, from its model and the docstrings in its source.

The source is read when somebody asks, never by a process that serves requests.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_core import PydanticUndefined

from pingap.config.quantities import DURATION_SCHEMA, SIZE_SCHEMA, format_duration, format_size
from pingap.config.schema import docs_of
from pingap.config.storage.base import Readable
from pingap.loading import load
from pingap.stages.plugins import checking, installed, making, registry, trial, user_code
from pingap.stages.plugins.api import STEPS, Plugin, Settings, Step
from pingap.stages.plugins.guard import HookGuard

OURS: Final = "Ours."
"""With which the docstring of a key says that pingap 0.13.9 has no such key."""

PYTHON: Final = """A plugin that you wrote ([how to](plugins.md#writing-a-plugin)). Its other keys are its own."""

_COMMON: Final = frozenset(Settings.model_fields)

_KINDS: Final[Mapping[str, str]] = {
    "string": "text",
    "boolean": "bool",
    "integer": "number",
    "number": "number",
    "array": "list",
    "object": "table",
}
"""Types of JSON Schema in the words of the manual. A `format` says it more exactly."""


@dataclass(frozen=True, slots=True)
class PluginKey:
    """One key of a section."""

    name: str
    type: str
    """As the manual says it: `text`, `list of text`, `0 to 9`, `"allow"`, `"deny"`; what stands in quotes is to be written so."""
    default: Any
    """As a configuration writes it, a duration as `"10s"`; None where nothing can be written, or the key is required."""
    is_required: bool
    is_ours: bool
    """pingap 0.13.9 has no such key."""
    text: str
    """What it means, in one line of Markdown; may be empty."""


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """One category."""

    name: str
    steps: tuple[Step, ...]
    """At which it runs unless its section says otherwise."""
    choice: tuple[Step, ...]
    """What `step` may say; empty when there is no choice."""
    summary: str
    """The first paragraph of its docstring, in Markdown."""
    prose: str
    """The rest of it; may be empty."""
    keys: tuple[PluginKey, ...]
    """Without `category`, `step` and `remark`, which every plugin has."""
    instances: Mapping[str, Mapping[str, Any]]
    """Of this plugin that need no section, with the settings that they have."""


def entries() -> list[PluginEntry]:
    """Of all plugins of pingap, in the order of their names, `python` last."""
    return [*(_entry(name, kind) for name, kind in sorted(registry.CATEGORIES.items())), _of_users()]


def entries_installed() -> list[PluginEntry]:
    """Of the plugins that installed packages have, by their categories. Raises BrokenCode when what is installed cannot be read.

    Each is imported into this process, after it was tried in another one; of one that cannot be the summary says why.
    """
    found = []
    for one in installed.listed():
        if one.category in registry.OUR_CATEGORIES:
            why = "is not to be had: pingap's own plugin has that name"
        elif problems := trial.try_out(checking.JUDGE_PACKAGE, one.category, {"category": one.category}, one.code).problems:
            why = f"cannot be used: {problems[0].message}"
        else:
            kind = making.class_of(one.category, HookGuard())
            assert kind is not None
            entry = entry_of(one.category, kind, sys.modules[kind.__module__].__doc__ or "")
            found.append(replace(entry, summary=f"{one.distribution}: {entry.summary or kind.__name__}"))
            continue
        found.append(PluginEntry(one.category, (), (), f"{one} {why}", "", (), {}))
    return found


def entry_of(name: str, kind: type[Plugin[Any]], doc: str) -> PluginEntry:
    """Of any plugin. doc: the docstring of its file. Raises nothing: what cannot be found is empty."""
    summary, prose = _parts(name, doc)
    steps, choice = _steps(kind)
    instances = {
        one: {key: value for key, value in section.items() if key != "category"}
        for one, section in registry.BUILTIN_SECTIONS.items()
        if section["category"] == name
    }
    return PluginEntry(name, steps, choice, summary, prose, tuple(_keys(kind.model)), instances)


def _entry(name: str, kind: type[Plugin[Any]]) -> PluginEntry:
    return entry_of(name, kind, sys.modules[kind.__module__].__doc__ or "")


def entries_in(storage: Readable) -> list[PluginEntry]:
    """Of the plugins that users wrote for a configuration, by the names of their sections. Raises ConfigRefused.

    Their files are imported into this process, after they were tried in another one.
    """
    snapshot = load(storage)
    made = {name: making.make(name, snapshot.plugins[name], HookGuard(), code) for name, code in snapshot.code.items()}
    return [_entry(name, type(one.plugin)) for name, one in made.items()]


def _of_users() -> PluginEntry:
    keys = [key for key in _keys(user_code.PythonSettings) if key.name in user_code.HOST_KEYS]
    return PluginEntry(user_code.CATEGORY, (), STEPS, PYTHON, "", tuple(keys), {})


def _parts(name: str, doc: str) -> tuple[str, str]:
    summary, _, prose = inspect.cleandoc(doc).strip().partition("\n\n")
    summary = re.sub(rf"^`?{re.escape(name)}`?:\s*", "", summary)
    return summary[:1].upper() + summary[1:], prose.strip("\n")


def _steps(kind: type[Plugin[Any]]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """(steps at which it runs by default, what `step` may say)."""
    own = tuple(step for step in STEPS if getattr(kind, step) is not getattr(Plugin, step))
    if kind.hooks is not Plugin.hooks:
        try:
            own = tuple(step for step in STEPS if step in kind(kind.model()).hooks())
        except Exception:  # some settings have no default
            own = own or kind.steps[:1]
    return own, kind.steps if set(own) & set(kind.steps) and len(kind.steps) > 1 else ()


def _keys(model: type[Settings]) -> Iterable[PluginKey]:
    texts = docs_of(model)
    schema = model.model_json_schema()
    required = schema.get("required", ())
    for field, spec in model.model_fields.items():
        name = spec.alias or field
        if name in _COMMON:
            continue
        shape = schema["properties"][name]
        text = " ".join(texts.get(field, "").split())
        value = spec.get_default(call_default_factory=True) if spec.default_factory is None or not _takes_data(spec) else None
        default = None if value is PydanticUndefined or value is None else _written(value, shape)
        yield PluginKey(name, type_of(shape, schema.get("$defs", {})), default, name in required, OURS in text, text)


def _takes_data(spec: Any) -> bool:
    return bool(getattr(spec, "default_factory_takes_validated_data", False))


def _written(value: Any, shape: Mapping[str, Any]) -> Any:
    """A default as a configuration would say it."""
    if shape.get("pattern") == DURATION_SCHEMA["pattern"]:
        return format_duration(value)
    if shape.get("anyOf") == SIZE_SCHEMA["anyOf"]:
        return format_size(value)
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, str | int | float | bool) for one in value):
        return list(value)
    return shape.get("default", str(value))


def type_of(shape: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type of a key as people say it, from the JSON Schema of what may be written. definitions: what `$ref` may refer to."""
    if "$ref" in shape:
        return type_of(definitions.get(shape["$ref"].rpartition("/")[2], {}), definitions)
    if shape.get("pattern") == DURATION_SCHEMA["pattern"]:
        return "duration"
    if shape.get("anyOf") == SIZE_SCHEMA["anyOf"]:
        return "size"
    if "enum" in shape or "const" in shape:
        return ", ".join(json.dumps(one, ensure_ascii=False) for one in shape.get("enum", (shape.get("const"),)) if one not in ("", None))
    if kinds := shape.get("anyOf", shape.get("oneOf")):
        said = [type_of(one, definitions) for one in kinds if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(said)) or "text"
    kind = shape.get("type")
    if kind == "array":
        items = shape.get("items", {})
        return f"list of {type_of(items, definitions).replace('table', 'tables')}" if items else "list"
    if kind == "integer" and "minimum" in shape and "maximum" in shape:
        return f"{shape['minimum']} to {shape['maximum']}"
    return str(shape.get("format") or _KINDS.get(str(kind), "text"))


def as_json(entry: PluginEntry) -> dict[str, Any]:
    """For programs: `pingap plugins --json`. Keys are added at most, never renamed or taken away."""
    return {
        "name": entry.name,
        "steps": list(entry.steps),
        "choice": list(entry.choice),
        "summary": entry.summary,
        "prose": entry.prose,
        "keys": [
            {
                "name": key.name,
                "type": key.type,
                "default": key.default,
                "required": key.is_required,
                "ours": key.is_ours,
                "text": key.text,
            }
            for key in entry.keys
        ],
        "instances": {name: dict(settings) for name, settings in entry.instances.items()},
    }
