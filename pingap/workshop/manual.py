"""docs/builtin-plugins.md: the manual of the plugins that come with pingap, made of what their files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from pingap.config.unsupported import PLUGIN_CATEGORIES
from pingap.stages.plugins import user_code
from pingap.workshop.catalogue import PluginEntry, PluginKey, entries

HEAD: Final = """<!-- Made by `make docs` from the docstrings of stages/plugins/builtin/*.py: change those, and never this page.
     After a conflict in here: `make docs` again, on whatever git left of it. -->

# The built-in plugins

What each does, and its keys. [plugins.md](plugins.md) says how plugins are given to locations, when they run, and how to
write one; `pingap plugins NAME` shows the same as here.

Every section may also have `category` (which plugin it is), `step` (when it runs, where there is a choice) and `remark` (a
note). Durations are written `"10s"`, `"500ms"`, sizes `"64kib"`, `"1mb"`; regular expressions run under RE2. A key with
"Ours." is not known to pingap 0.13.9.
"""


def page() -> str:
    """The whole page, with a newline at its end."""
    listed = entries()
    return "\n".join((HEAD, *_contents(listed), *(section(entry) for entry in listed))) + _later(listed)


def _contents(listed: list[PluginEntry]) -> Iterator[str]:
    for entry in listed:
        yield f"- [`{entry.name}`](#{entry.name}): {first_sentence(entry.summary)}"
    yield ""


def first_sentence(summary: str) -> str:
    """Without its dot."""
    text = " ".join(summary.split())
    head, dot, _ = text.partition(". ")
    return head if dot else text.removesuffix(".")


def section(entry: PluginEntry) -> str:
    """What the page says of one plugin."""
    parts = [f"## `{entry.name}`", entry.summary, steps_of(entry)]
    if entry.instances:
        parts.append(f"There without a section: {'; '.join(instances_of(entry))}.")
    if entry.keys:
        parts.append("\n".join(("| key | type | default | meaning |", "| --- | --- | --- | --- |", *map(_row, entry.keys))))
    parts.append(entry.prose)
    return "\n\n".join(part for part in parts if part) + "\n"


def steps_of(entry: PluginEntry) -> str:
    """A sentence."""
    if entry.name == user_code.CATEGORY:
        return "Steps: those whose methods it overrides."
    own = " and ".join(f"`{step}`" for step in entry.steps)
    if others := [f"`{step}`" for step in entry.choice if step not in entry.steps]:
        return f"Step {own}; with `step` also {' or '.join(others)}."
    return f"Step{'s' if len(entry.steps) > 1 else ''} {own}."


def instances_of(entry: PluginEntry) -> Iterator[str]:
    """`name` with its settings, of each that needs no section."""
    for name, settings in entry.instances.items():
        said = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in settings.items())
        yield f"`{name}`" + (f" ({said})" if said else "")


def default_of(key: PluginKey) -> str:
    """`required`, or the default as it is written; "" for none."""
    if key.is_required:
        return "required"
    return "" if key.default in (None, "") else json.dumps(key.default, ensure_ascii=False)


def _row(key: PluginKey) -> str:
    default = default_of(key)
    quoted = ", ".join(f"`{one}`" for one in key.type.split(", ")) if key.type.startswith('"') else key.type
    cells = (f"`{key.name}`", quoted, default if default in ("", "required") else f"`{default}`", key.text)
    return "".join(f"| {cell} " if cell else "| " for cell in (one.replace("|", "\\|") for one in cells)) + "|"


def _later(listed: list[PluginEntry]) -> str:
    there = {entry.name for entry in listed}
    missing = [f"`{name}`" for name in sorted(PLUGIN_CATEGORIES) if name not in there]
    if not missing:
        return ""
    return f"\n## Not there yet\n\n`pingap check` refuses them, and says so: {', '.join(missing)}.\n"
