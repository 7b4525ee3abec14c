"""The Cache-Status line of an answer (RFC 9211): ours is one member, behind those of caches that are nearer to the origin."""

from __future__ import annotations

from typing import Final

from pingap.stages.headers import cutter

BYPASS: Final = "bypass"
"""Why a request went on (section 2.2): the settings or the request say that we are not to look."""
METHOD: Final = "method"
URI_MISS: Final = "uri-miss"
VARY_MISS: Final = "vary-miss"
REQUEST: Final = "request"
"""It was there and fresh, and the request's directives did not let it be used."""
STALE: Final = "stale"


def hit(ttl: float, detail: str = "") -> bytes:
    """The line for an answer from the store. ttl: seconds for which it is still fresh; negative ones: since when it is stale."""
    if not detail:
        return b"cache-status: pingap; hit; ttl=%d\r\n" % _nearest(ttl)
    return b"cache-status: pingap; hit; ttl=%d%b\r\n" % (_nearest(ttl), _detail(detail))


def forwarded(
    why: str, status: int = 0, ttl: float | None = None, is_stored: bool = False, is_collapsed: bool = False, detail: str = ""
) -> bytes:
    """The line for one that came from the backend. why: see above; status: of the backend's answer, where it is not the one that is sent;
    ttl: of what is stored now; is_collapsed: another's request brought it; detail: for people."""
    parts = [b"cache-status: pingap; fwd=%b" % why.encode()]
    if status:
        parts.append(b"; fwd-status=%d" % status)
    if ttl is not None:
        parts.append(b"; ttl=%d" % _nearest(ttl))
    if is_stored:
        parts.append(b"; stored")
    if is_collapsed:
        parts.append(b"; collapsed")
    return b"".join(parts) + _detail(detail) + b"\r\n"


def _nearest(ttl: float) -> int:
    """`max-age=60` is 60 in the answer that brings it, though it has been asked for some milliseconds ago."""
    return int((ttl + 0.5) // 1)


def _detail(detail: str) -> bytes:
    return b"; detail=" + quoted(detail.encode("ascii", "replace")) if detail else b""


def without_status(headers: bytes) -> bytes:
    """An answer's block without the lines that a cache before this one has written under the names of ours."""
    return headers if headers.find(b"x-cache-") < 0 else _OURS(headers)


def quoted(text: bytes) -> bytes:
    """A string of structured fields (RFC 8941 section 3.3.3), which is ASCII: other bytes are `%xx`; 1,000 of them at most."""
    shown = b"".join([_SHOWN[byte] for byte in text[:1000]])
    return b'"' + shown + b'"'


_OURS: Final = cutter((b"x-cache-status", b"x-cache-lock"))

_SHOWN: Final = tuple(
    b"\\" + bytes((byte,)) if byte in b'"\\' else bytes((byte,)) if 32 <= byte < 127 else b"%%%02x" % byte for byte in range(256)
)
