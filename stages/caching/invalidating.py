"""What becomes invalid by a request that has changed something (RFC 9111 section 4.4)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from pingap.stages.headers import value_of

_SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"QUERY", b"REPORT", b"SEARCH"))
"""By IANA's registry, and CONNECT, which is about no URL. Any other method may have changed something, unknown ones included."""

_PORTS: Final = {"http": 80, "https": 443}


def is_unsafe(method: bytes) -> bool:
    """It may change what its URL is the name of."""
    return method not in _SAFE


def targets(method: bytes, status: int, scheme: bytes, host: bytes, target: bytes, headers: bytes) -> list[tuple[bytes, bytes]]:
    """(host, target) of what an answer makes invalid: of the request itself first, then of its Location and Content-Location where these
    are of the same origin: what is another's cannot be made invalid from here.

    status, headers: of the answer. host: as the client named it, with the port; target: path and query.
    """
    if method in _SAFE or not 200 <= status < 400:
        return []
    found = [(host, target)]
    for name in (b"location", b"content-location"):
        value = value_of(headers, name)
        there = None if value is None else _there(scheme, host, target, value)
        if there is not None and (host, there) not in found:
            found.append((host, there))
    return found


def _there(scheme: bytes, host: bytes, target: bytes, reference: bytes) -> bytes | None:
    """Path and query of a reference; None if it is of another origin, or no URL."""
    if len(reference) > 8192:
        return None
    base = f"{scheme.decode('latin-1')}://{host.decode('latin-1')}{target.decode('latin-1')}"
    try:
        here, there = urlsplit(base), urlsplit(urljoin(base, reference.decode("latin-1")))
        if there.scheme != here.scheme or there.username is not None or there.hostname != here.hostname:
            return None
        default = _PORTS.get(here.scheme)
        if (there.port or default) != (here.port or default):
            return None
    except ValueError:
        return None
    path = there.path or "/"
    return f"{path}?{there.query}".encode("latin-1", "replace") if there.query else path.encode("latin-1", "replace")
