"""Request methods: which are forwarded, and which may be sent twice."""

from __future__ import annotations

from typing import Final

from pingap.stages.http1.rules import TOKEN

METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT MKACTIVITY CHECKOUT"
    b" MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR ACL BIND REBIND UNBIND LINK UNLINK QUERY".split()
)
"""Those that every parser knows. Any other token is forwarded too, but by a slower way (`is_forwarded`)."""

LONGEST: Final = 32
"""Bytes of a method; the longest that is registered with IANA has 17."""

_NEVER: Final = frozenset((b"CONNECT", b"TRACE", b"PRI"))
"""CONNECT opens tunnels, which a reverse proxy does not; TRACE would show a client what proxies add for backends; PRI is the
beginning of HTTP/2 (RFC 9113 section 3.4). In no spelling: there are servers that do not look at the case."""

IDEMPOTENT: Final = frozenset(b"GET HEAD OPTIONS PUT DELETE PROPFIND SEARCH REPORT QUERY".split())
"""What a backend may see twice without harm (RFC 9110 section 9.2.2)."""


def is_forwarded(method: bytes) -> bool:
    """Whether a request with this method is passed on: any token that is not too long, but for three."""
    return method in METHODS or (0 < len(method) <= LONGEST and not method.translate(None, TOKEN) and method.upper() not in _NEVER)
