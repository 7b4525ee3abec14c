"""The Cache-Status line of an answer (RFC 9211): ours is one member, behind those of caches that are nearer to the origin."""

from __future__ import annotations

from typing import Final

from pingap.stages.headers import cutter

BYPASS: Final = "bypass"
"""Why a request went on (section 2.2): we are not to look."""
METHOD: Final = "method"
URI_MISS: Final = "uri-miss"
VARY_MISS: Final = "vary-miss"
MISS: Final = "miss"
"""One of the two; we do not know which."""
REQUEST: Final = "request"
"""It was there, and the request's directives did not let it be used."""
STALE: Final = "stale"
PARTIAL: Final = "partial"

NAME: Final = b"pingap"


def hit(ttl: float, key: bytes = b"", detail: str = "") -> bytes:
    """The line for an answer from the store. ttl: seconds for which it is still fresh; negative ones: since when it is stale."""
    if not key and not detail:
        return b"cache-status: pingap; hit; ttl=%d\r\n" % int(ttl // 1)
    return b"cache-status: pingap; hit; ttl=%d%b%b\r\n" % (int(ttl // 1), _key(key), _detail(detail))


def forwarded(
    why: str,
    status: int = 0,
    ttl: float | None = None,
    is_stored: bool = False,
    is_collapsed: bool = False,
    key: bytes = b"",
    detail: str = "",
) -> bytes:
    """The line for one that came from the backend. why: see above; status: of the backend's answer, where it is not the one that is sent;
    ttl: of what is stored now; is_collapsed: another's request brought it; detail: for people."""
    parts = [b"cache-status: pingap; fwd=%b" % why.encode()]
    if status:
        parts.append(b"; fwd-status=%d" % status)
    if ttl is not None:
        parts.append(b"; ttl=%d" % int(ttl // 1))
    if is_stored:
        parts.append(b"; stored")
    if is_collapsed:
        parts.append(b"; collapsed")
    return b"".join(parts) + _key(key) + _detail(detail) + b"\r\n"


def _key(key: bytes) -> bytes:
    return b"; key=" + quoted(key) if key else b""


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
