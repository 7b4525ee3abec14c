"""What is in a directory, as a page, as lines, or as JSON. Makes text; reads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from time import gmtime, strftime
from typing import Final, NamedTuple

from pingap.plugin import qualities
from pingap.stages.plugins.builtin.files.web_paths import as_segment

MOST_ENTRIES: Final = 10_000
"""That are listed: what a browser can still show, and what a request may cost."""

WIDTH: Final = 60
"""Letters of a name before its size and time stand on a line of their own."""

HEADERS: Final = (
    ("cache-control", "private, no-cache"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("x-content-type-options", "nosniff"),
    ("vary", "accept"),
)
"""Of each list. Names are anybody's who may write there."""

KINDS: Final = {"html": "text/html; charset=utf-8", "text": "text/plain; charset=utf-8", "json": "application/json; charset=utf-8"}


class ListedName(NamedTuple):
    name: bytes
    is_folder: bool
    size: int
    """Bytes; of a file."""
    modified: int
    """Seconds since 1970."""


class Entries(NamedTuple):
    """Of one directory."""

    found: Sequence[ListedName]
    """Directories first, each half by name."""
    is_all: bool
    """There are no more than these."""


def in_order(entries: list[ListedName]) -> list[ListedName]:
    return sorted(entries, key=lambda entry: (not entry.is_folder, entry.name.lower(), entry.name))


def wanted_kind(asked: str | None, accept: bytes | None) -> str:
    """html, text or json. asked: the parameter `format`. accept: the header; a page for whoever does not say."""
    if asked in KINDS:
        return asked
    if accept is None or accept.strip() == b"*/*":
        return "html"
    liked = qualities(accept)
    order = (("html", "text/html"), ("json", "application/json"), ("text", "text/plain"))
    best, kind = max(((liked.get(media, 0.0), -at) for at, (_, media) in enumerate(order)), default=(0.0, 0))
    return order[-kind][0] if best > 0 else "html"


def render(kind: str, path: str, entries: Entries, is_root: bool) -> bytes:
    """path: for people to read; any text. is_root: there is nothing above."""
    if kind == "json":
        return _json(entries)
    return _text(entries) if kind == "text" else _page(path, entries, is_root)


def _json(entries: Entries) -> bytes:
    rows = [
        {"name": shown(entry.name) + "/" * entry.is_folder, "url": _link(entry), "type": "directory" if entry.is_folder else "file"}
        | ({} if entry.is_folder else {"size": entry.size})
        | {"modified": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(entry.modified))}
        for entry in entries.found
    ]
    return (json.dumps({"entries": rows, "complete": entries.is_all}, ensure_ascii=False, indent=1) + "\n").encode()


def _text(entries: Entries) -> bytes:
    rows = [f"{_time(entry)}  {_size(entry):>12}  {shown(entry.name)}{'/' * entry.is_folder}" for entry in entries.found]
    return ("\n".join(rows + _rest(entries)) + "\n").encode()


def _page(path: str, entries: Entries, is_root: bool) -> bytes:
    title = escape(f"Index of {path}")
    rows = [] if is_root else ['<a href="../">../</a>']
    for entry in entries.found:
        name = shown(entry.name) + "/" * entry.is_folder
        gap = " " * max(1, WIDTH - len(name))
        rows.append(f'<a href="{escape(_link(entry))}">{escape(name)}</a>{gap}{_time(entry)}  {_size(entry):>12}')
    style = "body{font:1rem/1.5 system-ui,sans-serif;margin:2rem}pre{font:0.95rem/1.6 ui-monospace,monospace;overflow-x:auto}"
    style += ":root{color-scheme:light dark}"
    head = f'<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>{style}</style>'
    body = "\n".join(rows + _rest(entries))
    return f'<!doctype html>\n<html lang="en">\n{head}\n<h1>{title}</h1>\n<pre>\n{body}\n</pre>\n</html>\n'.encode()


def shown(name: bytes) -> str:
    """A name for people: control characters and what is no UTF-8 are shown as U+FFFD, as is what turns the writing round."""
    text = name.decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _link(entry: ListedName) -> str:
    """Relative; `./` so that no name is taken for a scheme."""
    return f"./{as_segment(entry.name)}{'/' * entry.is_folder}"


def _time(entry: ListedName) -> str:
    return strftime("%Y-%m-%d %H:%M", gmtime(entry.modified))


def _size(entry: ListedName) -> str:
    return "-" if entry.is_folder else str(entry.size)


def _rest(entries: Entries) -> list[str]:
    return [] if entries.is_all else [f"(only {len(entries.found)} are listed)"]


def name_of(names: Sequence[bytes]) -> str:
    """A path below the root for people."""
    return "/" + "".join(shown(name) + "/" for name in names)
