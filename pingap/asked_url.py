"""A URL of the command line, and which server of the running instance a request for it would come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from pingap.config.problems import choices, nearest

PORTS: Final = {"http": 80, "https": 443}

_UNQUOTED: Final = "%/:=&?~#+!$,;'@()*[]"
"""What `quote` leaves as it is: all that a path and a query may have as it is, and `%`, for what is quoted already."""


class BadUrl(ValueError):
    """The text says what is wrong, and what to do."""


class AskedUrl(NamedTuple):
    scheme: str
    authority: str
    """`host` or `host:port`, as a client would name it."""
    port: int
    target: str
    """Path and query, percent-encoded."""


class UrlEntrance(NamedTuple):
    """Where a request for it would come in."""

    server: str
    scheme: str
    """Spoken there; where it is another than the URL's, somebody before pingap ends TLS."""
    ip: str
    port: int


def parse_asked(text: str) -> AskedUrl:
    """Raises BadUrl."""
    if "://" not in text:
        raise BadUrl(f"{text!r} is no URL: write https://host/path")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"{text!r} is no URL: {error}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadUrl(f"{text!r} is no URL of a web site: write https://host/path")
    if parts.username is not None:
        raise BadUrl("a URL with a user name is no request: write the header with -H 'authorization: …'")
    target = (parts.path or "/") + (f"?{parts.query}" if "?" in text.partition("#")[0] else "")
    return AskedUrl(
        parts.scheme,
        parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc,
        port or PORTS[parts.scheme],
        quote(target, safe=_UNQUOTED),
    )


def entrance_for(url: AskedUrl, listeners: Sequence[Mapping[str, str]], server: str | None) -> UrlEntrance:
    """listeners: `server`, `addr` and `scheme` of each. server: which one the operator means, if that is said. Raises BadUrl."""
    found = [_entrance(one) for one in listeners]
    names = list(dict.fromkeys(one.server for one in found))
    if server is not None:
        found = [one for one in found if one.server == server]
        if not found:
            raise BadUrl(f"there is no server {server!r}: {nearest(server, names) or choices(names)}")
    exact = [one for one in found if one.port == url.port]
    alike = [one for one in found if one.scheme == url.scheme]
    for few in (exact, alike, found):
        if few and len({one.server for one in few}) == 1:
            return next((one for one in few if one.scheme == url.scheme), few[0])
    if not found:
        raise BadUrl("the running instance listens nowhere")
    raise BadUrl(f"which server is meant is not clear: say --server {' or '.join(names)}")


def _entrance(row: Mapping[str, str]) -> UrlEntrance:
    host, _, port = row["addr"].rpartition(":")
    return UrlEntrance(row["server"], row["scheme"], host.strip("[]"), int(port))
