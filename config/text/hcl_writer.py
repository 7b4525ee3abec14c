"""Tables to HCL. Every item is a block at the top; a text of several lines is a heredoc where that says it exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem, path_of
from pingap.config.storage.base import SINGLE
from pingap.config.text.blocks import WORDS

_INDENT: Final = "    "
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOT_PLAIN: Final = re.compile(r"[^\t\n -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\U0010ffff]")
"""What a heredoc cannot hold, or would not show."""
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def written(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a whole configuration. Raises ConfigRefused for what HCL has no form for."""
    blocks = []
    for section, word in WORDS.items():
        if section not in tables:
            continue
        if section in SINGLE:
            blocks.append(f"{word} {_body(tables[section], (section,))}")
        else:
            blocks += [f"{word} {_quoted(name)} {_body(item, (section, name))}" for name, item in tables[section].items()]
    return "\n".join(blocks)


def _body(item: Mapping[str, Any], path: tuple[str, ...]) -> str:
    lines = []
    for key, value in item.items():
        if not _WORD.fullmatch(key):
            raise ConfigRefused([Problem(path_of(*path, key), "HCL has no form for such a key", "keep TOML, or write KDL")])
        lines.append(f"{_INDENT}{key} = {_value(value, 1, (*path, key))}\n")
    return "{\n" + "".join(lines) + "}\n" if lines else "{}\n"


def _value(value: Any, depth: int, path: tuple[str | int, ...]) -> str:
    """depth: of the line it stands on."""
    if isinstance(value, str):
        return _heredoc(value, depth) or _quoted(value)
    if isinstance(value, dict):
        return _object(value, depth, path)
    if isinstance(value, list):
        return _list(value, depth, path)
    return _scalar(value, path)


def _object(value: dict[str, Any], depth: int, path: tuple[str | int, ...]) -> str:
    if not value:
        return "{}"
    pad = _INDENT * (depth + 1)
    lines = [
        f"{pad}{key if _WORD.fullmatch(key) else _quoted(key)} = {_value(inner, depth + 1, (*path, key))}\n" for key, inner in value.items()
    ]
    return "{\n" + "".join(lines) + _INDENT * depth + "}"


def _list(value: list[Any], depth: int, path: tuple[str | int, ...]) -> str:
    inner = []
    for index, entry in enumerate(value):
        # A heredoc ends with its line, and a comma cannot follow.
        inner.append(_quoted(entry) if isinstance(entry, str) else _value(entry, depth + 1, (*path, index)))
    if not any(isinstance(entry, dict | list) for entry in value):
        return f"[{', '.join(inner)}]"
    pad = _INDENT * (depth + 1)
    return "[\n" + "".join(f"{pad}{one},\n" for one in inner) + _INDENT * depth + "]"


def _scalar(value: Any, path: tuple[str | int, ...]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    what = f"the number {value}" if isinstance(value, float) else "a date or time"
    raise ConfigRefused([Problem(path_of(*path), f"HCL has no form for {what}", "write it as text")])


def _quoted(text: str) -> str:
    inner = _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.translate(_ESCAPES))
    return '"' + inner.replace("${", "$${").replace("%{", "%%{") + '"'


def _heredoc(text: str, depth: int) -> str:
    """Nothing for a text that it would change: one without a line end behind its last line, or with signs that need an escape."""
    if not text.endswith("\n") or _NOT_PLAIN.search(text):
        return ""
    lines = text[:-1].split("\n")
    marker, number = "EOT", 1
    while any(line.strip(" \t") == marker for line in lines):
        marker, number = f"EOT{number}", number + 1
    lines = [line.replace("${", "$${").replace("%{", "%%{") for line in lines]
    # What is indented here is taken away again by as much as the least indented line has: of these texts, as much as was put there.
    if all(line.strip(" \t") for line in lines) and any(line[0] not in " \t" for line in lines):
        pad = _INDENT * (depth + 1)
        return f"<<-{marker}\n" + "".join(f"{pad}{line}\n" for line in lines) + _INDENT * depth + marker
    return f"<<{marker}\n" + "".join(f"{line}\n" for line in lines) + marker
