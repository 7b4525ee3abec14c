"""What `hide_credentials` keeps from backends is kept from access log and events too: its value there is `***`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pingap.config.model import Snapshot
from pingap.observability.records import Access
from pingap.stages.header_view import spellings
from pingap.stages.spellings import loosely, parameter

MASK: Final = b"***"
_COOKIES: Final = re.compile(rb"(?m)^cookie: ([^\r\n]*)")


class Mask:
    """The credentials of some plugins. Values are covered, names are not: that there was one is worth knowing.

    They are covered in each spelling that some backend takes for the name.
    """

    __slots__ = ("_cookies", "_headers", "_queries")

    def __init__(self, queries: Iterable[bytes], headers: Iterable[bytes], cookies: Iterable[bytes] = ()) -> None:
        """queries: names of parameters, as of `stages.spellings.parameter`. headers: names, lower case. cookies: names."""
        self._queries = frozenset(map(loosely, queries))
        names = [spellings(name.decode("latin-1")) for name in sorted(set(headers))]
        self._headers = re.compile(rb"(?m)^(%b): [^\r\n]*" % b"|".join(names)) if names else None
        self._cookies = frozenset(map(loosely, cookies))

    def target(self, target: bytes) -> bytes:
        path, mark, query = target.partition(b"?")
        if not mark or not self._queries:
            return target
        return b"%b?%b" % (path, b"&".join([self._pair(pair) for pair in query.split(b"&")]))

    def _pair(self, pair: bytes) -> bytes:
        if self._is_parameter(pair.partition(b";")[0]):
            return self._covered(pair)  # with what is behind a `;` of it: that is of the value, to most
        return b";".join([self._covered(part) if self._is_parameter(part) else part for part in pair.split(b";")])

    def _is_parameter(self, part: bytes) -> bool:
        return loosely(part.partition(b"=")[0]) in self._queries

    def _covered(self, pair: bytes) -> bytes:
        name, equals, _ = pair.partition(b"=")
        return b"%b=%b" % (name, MASK) if equals else pair

    def headers(self, block: bytes) -> bytes:
        if self._cookies and b"cookie: " in block:
            block = _COOKIES.sub(self._line, block)
        return self._headers.sub(rb"\1: " + MASK, block) if self._headers is not None else block

    def _line(self, found: re.Match[bytes]) -> bytes:
        return b"cookie: " + b";".join([self._cookie(pair) for pair in found[1].split(b";")])

    def _cookie(self, pair: bytes) -> bytes:
        name, equals, _ = pair.partition(b"=")
        return b"%b=%b" % (name, MASK) if equals and loosely(name.strip()) in self._cookies else pair


class Hidden:
    """The masks of one configuration generation; false when nothing is hidden anywhere."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._locations: dict[str, Mask] = {}
        self._servers: dict[str, Mask] = {}
        """For requests of which no location is known: refused, or given up by their client."""
        found = {name: credentials for name, section in snapshot.plugins.items() if any(credentials := _credentials(section))}
        if not found:
            return
        for name, location in snapshot.locations.items():
            if mask := _mask(found, location.plugins):
                self._locations[name] = mask
        for name, server in snapshot.servers.items():
            plugins = [plugin for key in server.locations if key in snapshot.locations for plugin in snapshot.locations[key].plugins]
            if mask := _mask(found, plugins):
                self._servers[name] = mask

    def __bool__(self) -> bool:
        return bool(self._locations)

    def cover(self, event: Access) -> Access:
        """The same event without them."""
        mask = self._locations.get(event.location) if event.location else self._servers.get(event.server)
        if mask is None:
            return event
        return event._replace(target=mask.target(event.target), request_headers=mask.headers(event.request_headers))


Credentials = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]
"""Query parameters, headers, cookies."""


def _credentials(section: Mapping[str, Any]) -> Credentials:
    """What a plugin of ours hides from backends (stages/plugins/builtin); its model has checked the section."""
    if not section.get("hide_credentials"):
        return (), (), ()
    match section.get("category"):
        case "basic_auth":
            return (), (b"authorization",), ()
        case "combined_auth" if header := section.get("digest_header"):
            return (), (str(header).lower().encode("latin-1", "replace"),), ()
        case "combined_auth":
            return (b"digest",), (), ()
        case "key_auth" if query := section.get("query"):
            return (parameter(str(query)),), (), ()
        case "jwt" if not section.get("header") and (cookie := section.get("cookie")):
            return (), (), (str(cookie).encode("latin-1", "replace"),)
        case "jwt" if not section.get("header"):
            return (parameter(str(section.get("query", ""))),), (), ()
        case "key_auth" | "jwt":
            return (), (str(section.get("header", "")).lower().encode("latin-1", "replace"),), ()
    return (), (), ()


def _mask(found: Mapping[str, Credentials], plugins: Iterable[str]) -> Mask | None:
    all_of = [found[name] for name in plugins if name in found]
    if not all_of:
        return None
    queries, headers, cookies = (dict.fromkeys(name for names in kind for name in names) for kind in zip(*all_of, strict=True))
    return Mask(queries, headers, cookies)
