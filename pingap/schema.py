"""The JSON Schema of the whole configuration, plugins included: what `pingap schema` prints."""

from __future__ import annotations

from typing import Any

from pingap.config import schema
from pingap.config.quantities import DURATION_SCHEMA, SIZE_SCHEMA, format_duration, format_size
from pingap.stages.plugins import registry, user_code


def document() -> dict[str, Any]:
    """Of this version of pingap. Keys of plugins that users wrote are whatever they like."""
    kinds = {category: plugin.model for category, plugin in registry.CATEGORIES.items()}
    own = {category: _of_plugin(category, kind) for category, kind in kinds.items()}
    of_users = _of_plugin(user_code.CATEGORY, user_code.PythonSettings) | {"additionalProperties": True}
    return schema.document(own | {user_code.CATEGORY: of_users})


def _of_plugin(category: str, kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = kind.model_json_schema(ref_template=f"#/$defs/{category}.{{model}}")
    definitions = {f"{category}.{name}": one for name, one in found.pop("$defs", {}).items()}
    docs = schema.docs_of(kind)
    names = {field.alias or name: name for name, field in kind.model_fields.items()}
    for one in (found, *definitions.values()):
        one.pop("title", None)
        one.pop("description", None)
        one["properties"] = {key: _entry(entry) for key, entry in one.get("properties", {}).items()}
    for key, entry in found["properties"].items():
        if text := docs.get(names.get(key, key)):
            entry["description"] = text
    found["properties"]["category"] = {"const": category, "description": docs["category"]}
    return found | ({"$defs": definitions} if definitions else {})


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A key, without what pydantic says besides: null, which no configuration can write, and seconds and bytes as numbers."""
    choices = [one for one in entry.get("anyOf", ()) if one != {"type": "null"}]
    found = {key: value for key, value in entry.items() if key not in ("title", "anyOf", "default")}
    found |= choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    default = entry.get("default")
    if default is None or default in ("", []):
        return found
    if found.get("pattern") == DURATION_SCHEMA["pattern"]:
        default = format_duration(default)
    elif found.get("anyOf") == SIZE_SCHEMA["anyOf"]:
        default = format_size(default)
    return found | {"default": default}
