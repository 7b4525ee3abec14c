"""What `pingap plugins` says, as plain text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from pingap import tables
from pingap.workshop.catalogue import PluginEntry, PluginKey
from pingap.workshop.manual import default_of, first_sentence, instances_of, steps_of

WIDEST: Final = 100
"""Columns beyond which no line of prose goes, however wide the terminal is."""

_CODE: Final = re.compile(r"`([^`]+)`")
_CLEAR: Final = re.compile(r"(?!\s).*\w.*(?<!\s)")
"""What is seen to be a name or a value without its backticks."""
_BOLD: Final = re.compile(r"\*\*([^*]+)\*\*")
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_BAR: Final = re.compile(r"(?<!\\)\|")
_ITEM: Final = re.compile(r"(\s*)([-*]|\d+\.) ")


def table(listed: Sequence[PluginEntry], width: int = 0) -> list[str]:
    """All plugins, a line for each, and the instances that need no section. width: columns; 0 is any."""
    columns = [
        tables.Column[PluginEntry]("PLUGIN", lambda entry: entry.name, False, 0),
        tables.Column[PluginEntry]("STEPS", lambda entry: ", ".join(entry.steps) or "any", False, 1),
        tables.Column[PluginEntry]("WHAT IT DOES", lambda entry: _plain(first_sentence(entry.summary)), False, 0, least=20),
    ]
    lines = tables.fitted(columns, listed, width)
    if instances := [f"  {_plain(said)}" for entry in listed for said in instances_of(entry)]:
        lines += ["", "There without a section:", *instances]
    return [line for one in lines for line in (_wrapped(one, width, "    ") if width else [one])]


def page(entry: PluginEntry, width: int = 80) -> list[str]:
    """All that there is to say of one plugin."""
    width = min(width, WIDEST)
    lines = [*_wrapped(f"{entry.name}: {_plain(entry.summary)}", width), ""]
    lines += _wrapped(_plain(steps_of(entry)), width)
    for said in instances_of(entry):
        lines += _wrapped(f"There without a section: {_plain(said)}.", width)
    if entry.keys:
        lines += ["", "Keys:"]
        for key in entry.keys:
            lines += ["", *_key(key, width)]
    if entry.prose:
        lines += ["", *_prose(entry.prose, width)][:-1]
    return lines


def _key(key: PluginKey, width: int) -> Iterator[str]:
    default = default_of(key)
    said = default if default in ("", "required") else f"default {default}"
    yield from _wrapped(f"  {key.name}  ({', '.join(part for part in (key.type, said) if part)})", width, "      ")
    if key.text:
        yield from _wrapped(f"      {_plain(key.text)}", width, "      ")


def _prose(text: str, width: int) -> Iterator[str]:
    """Markdown as text: paragraphs filled, code as it is, of tables each row like a paragraph."""
    paragraph: list[str] = []
    is_code = False
    for line in [*text.splitlines(), ""]:
        is_fence = line.lstrip().startswith("```")
        begins = not line.strip() or is_fence or line.startswith(("|", "#", "    ")) or _ITEM.match(line)
        if paragraph and (is_code or begins):
            yield from _wrapped(_plain(" ".join(paragraph)), width, "  " if _ITEM.match(paragraph[0]) else "")
            paragraph = []
        if is_fence:
            is_code = not is_code
        elif is_code:
            yield f"    {line}"
        elif line.startswith("|"):
            yield from _row(line, width)
        elif line.startswith("    "):
            yield line
        elif line.startswith("#"):
            yield line.lstrip("#").strip()
        elif line.strip():
            paragraph.append(line.strip())
        else:
            yield ""


def _row(line: str, width: int) -> list[str]:
    """A row of a table; nothing for the line below its head."""
    cells = [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.strip().strip("|"))]
    if not any(cell.strip(":- ") for cell in cells):
        return []
    return _wrapped(_plain(f"  {' | '.join(cells)}"), width, "      ")


def _plain(text: str) -> str:
    """Without what only a page can show: a link into the manual is its text, one to elsewhere is told."""
    said = _LINK.sub(lambda link: f"{link[1]} ({link[2]})" if "://" in link[2] else link[1], text)
    return _BOLD.sub(r"\1", _CODE.sub(lambda code: code[1] if _CLEAR.fullmatch(code[1]) else f"'{code[1]}'", said)).replace("`", "")


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=True
    ) or [""]
