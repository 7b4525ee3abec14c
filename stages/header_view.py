"""A header block as plugins see it: a mutable mapping over one bytes value in normal form (see stages/headers.py).

The block stays bytes; each look-up is a search in it. That is cheaper than a table
up to about a dozen look-ups, and free for those who look at nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]

WRITTEN_BY_US: Final = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Lines about one connection or the framing of one message: never in a block, never to be put there."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS: Final = bytes({*range(32), 127} - {9})


class Headers:
    """Names ignore case; the order of lines and lines of the same name are kept.

    Values are text in latin-1, as HTTP has them. Setting a name or a value that could
    not be one header line raises ValueError.
    """

    __slots__ = ("raw", "removed")

    def __init__(self, raw: bytes = b"") -> None:
        self.raw = raw
        """The block: `name: value\\r\\n` lines, names in lower case."""
        self.removed: tuple[bytes, ...] = ()
        """`name: ` of all that was to be removed, whether there was such a line or not: no trailer may bring it."""

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: T) -> str | T: ...

    def get(self, name: str, default: Any = None) -> Any:
        """The value of the first line of that name; `default`, whatever it is, if there is none."""
        value = self.first(_line(name))
        return default if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, in their order."""
        line = _line(name)
        length = len(line)
        return [found[length:].decode("latin-1") for found in self.raw.split(b"\r\n") if found.startswith(line)]

    def first(self, line: bytes) -> bytes | None:
        """As `get`, in bytes and without any conversion: `line` is `b"name: "` in lower case."""
        raw = self.raw
        if raw.startswith(line):
            start = len(line)
        else:
            start = raw.find(b"\n" + line)
            if start < 0:
                return None
            start += len(line) + 1
        return raw[start : raw.index(b"\r\n", start)]

    def joined(self, line: bytes) -> bytes | None:
        """As `first`, of a header that is a list: all its lines are one (RFC 9110 section 5.3)."""
        if self.raw.count(line) < 2:
            return self.first(line)
        size = len(line)
        found = [part[size:] for part in self.raw.split(b"\r\n") if part.startswith(line)]
        return b", ".join(found) if found else None

    def set(self, name: str, value: str | bytes) -> None:
        """One line of that name, in the place of the first of those that it replaces."""
        self[name] = value

    def add(self, name: str, value: str | bytes) -> None:
        """One more line, at the end."""
        line = writable(name)
        if line == b"host: " and self.first(line) is not None:
            raise ValueError("a request has one host header: use set")
        self.raw += line + _value(value) + b"\r\n"

    def setdefault(self, name: str, value: str | bytes) -> None:
        """Adds the line unless there is one of that name."""
        if name not in self:
            self.add(name, value)

    def remove(self, name: str) -> list[str]:
        """Takes all lines of that name away; returns their values."""
        line = _line(name)
        if line not in self.removed:
            self.removed = (*self.removed, line)
        spans = self._spans(line)
        if not spans:
            return []
        if line == b"host: ":
            raise ValueError("a request without a host header cannot be sent")
        values = [self.raw[start + len(line) : end - 2].decode("latin-1") for start, end in spans]
        self._cut(spans)
        return values

    def alike(self, name: str) -> list[str]:
        """The name of each line that some backend takes for one of `name`: to CGI, WSGI and PHP `x_user` and `x.user` are `x-user`."""
        return [found.decode("latin-1") for found in _alike(name).findall(b"\n" + self.raw)]

    def remove_alike(self, name: str) -> None:
        """`remove` for `name`, and for all that is `alike`: for a line that only we may write."""
        for one in {name, *self.alike(name)}:
            self.remove(one)

    def items(self) -> list[tuple[str, str]]:
        """(name, value) of each line."""
        pairs = (line.partition(b": ") for line in self.raw.split(b"\r\n")[:-1])
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, _, value in pairs]

    def __getitem__(self, name: str) -> str:
        value = self.first(_line(name))
        if value is None:
            raise KeyError(name)
        return value.decode("latin-1")

    def __setitem__(self, name: str, value: str | bytes) -> None:
        """As `set`, and it is here that it is done: this is the way that most hooks write it."""
        line = writable(name)
        whole = line + _value(value) + b"\r\n"
        raw = self.raw
        # Not `in`, which first asks whether these bytes are a number, and makes an exception of it.
        spans = self._spans(line) if raw.find(line) >= 0 else ()
        if not spans:
            self.raw = raw + whole
            return
        self._cut(spans[1:])
        start, end = spans[0]
        self.raw = self.raw[:start] + whole + self.raw[end:]

    def __delitem__(self, name: str) -> None:
        if not self.remove(name):
            raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.first(_line(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.items()])

    def __len__(self) -> int:
        return self.raw.count(b"\r\n")

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    def _spans(self, line: bytes) -> list[tuple[int, int]]:
        """Start and end of each line that begins with `line`."""
        raw, spans = self.raw, []
        at = 0 if raw.startswith(line) else raw.find(b"\n" + line) + 1 or -1
        while at >= 0:
            end = raw.index(b"\r\n", at) + 2
            spans.append((at, end))
            at = end if raw.startswith(line, end) else raw.find(b"\n" + line, end) + 1 or -1
        return spans

    def _cut(self, spans: list[tuple[int, int]]) -> None:
        for start, end in reversed(spans):
            self.raw = self.raw[:start] + self.raw[end:]


class RequestHeaders(Headers):
    """Of a request on its way to a backend: what a plugin sets there the client cannot say beside it, in whatever spelling of the name."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str | bytes) -> None:
        """As `set`. Lines with names that are `alike` are gone afterwards; `add` lets them be."""
        super().__setitem__(name, value)
        if not name.isalnum():
            own = name.lower()
            for other in self.alike(name):
                if other != own:
                    self.remove(other)


def block_of(pairs: Pairs) -> bytes:
    """A block of (name, value) pairs or a mapping. Raises ValueError for what is no header."""
    items: Iterable[Any] = pairs.items() if isinstance(pairs, Mapping) else pairs  # any: lists of two will do, too
    return b"".join([writable(name) + _value(value) + b"\r\n" for name, value in items])


@lru_cache(maxsize=1024)
def _line(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace") + b": "


def spellings(name: str) -> bytes:
    """A regex for the names that are `alike` to this one."""
    return "".join(sign if sign.isalnum() else r"[^0-9a-z:\r\n]" for sign in name.lower()).encode("latin-1", "replace")


@lru_cache(maxsize=1024)
def _alike(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"\n(%b): " % spellings(name))


@lru_cache(maxsize=1024)
def writable(name: str) -> bytes:
    """`b"name: "` of a header that may be written; ValueError for any other."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header")
    if name.lower() in WRITTEN_BY_US:
        raise ValueError(f"header {name!r} is about one connection: pingap writes it itself")
    return _line(name)


def _value(value: str | bytes) -> bytes:
    if type(value) is str and value.isascii() and value.isprintable():  # nothing in it but visible text and spaces, as in most
        return value.encode().strip(b" ")
    try:
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} has characters that no header may have") from None
    if len(raw.translate(None, _CONTROLS)) != len(raw):
        raise ValueError("a header value has no control characters, and no line break above all")
    return raw.strip(b" \t")
