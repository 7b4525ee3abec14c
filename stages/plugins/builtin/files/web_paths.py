"""From the path of a URL to the names of a file below a directory. Decides; looks at no disk.

Each file has one path, and no other spelling of it leads there: not `//a`, `/./a`, `/x/../a`, `/a%2Fb`, and not `/%61`. Locations
compare the path as it was sent, so a spelling that leads to the same file by another location would lead around the plugins of its own.
`normalize_path` of the server makes most of them one before locations are looked at.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

_BROKEN: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_AS_IT_IS: Final = "!$&'()*+,;=:@"
"""With the unreserved characters, what a segment may have without an escape (RFC 3986 section 3.3). Browsers send these so, too."""

WELL_KNOWN: Final = b".well-known"
"""RFC 8615: what is below it is meant for all, although its name begins with a dot."""


class NoPath(Exception):
    """The path names no file here, whatever there is on the disk."""

    def __init__(self, status: int) -> None:
        """400 for what is no path, 403 for `..`, 404 for the rest."""
        super().__init__(status)
        self.status = status


class WebPath(NamedTuple):
    """Names below the root, of any bytes but NUL and slash; none is empty, `.` or `..`."""

    names: tuple[bytes, ...]
    is_folder: bool
    """It ends with a slash: nothing but a directory is meant."""
    is_canonical: bool = True
    """It is spelled as `as_segment` spells it."""


def web_path(path: bytes) -> WebPath:
    """path: as it was sent, percent-encoded. Raises NoPath."""
    if not path.startswith(b"/"):
        raise NoPath(400)
    segments = path[1:].split(b"/")
    if is_folder := not segments[-1]:
        segments.pop()
    if _BROKEN.search(path):
        raise NoPath(400)
    names = [unquote_to_bytes(segment) for segment in segments]
    for name in names:
        if name.find(b"\0") >= 0:
            raise NoPath(400)
        if name == b"..":
            raise NoPath(403)
        if not name or name == b"." or name.find(b"/") >= 0:
            raise NoPath(404)
    return WebPath(
        tuple(names), is_folder, all(as_segment(name).encode() == segment for name, segment in zip(names, segments, strict=True))
    )


def is_hidden(names: tuple[bytes, ...]) -> bool:
    """A name begins with a dot, `.well-known` as the first excepted."""
    return any(name.startswith(b".") for name in (names[1:] if names[:1] == (WELL_KNOWN,) else names))


def without_prefix(path: WebPath, prefix: tuple[bytes, ...]) -> WebPath:
    """The path below `prefix`; as it is, where it is not below that."""
    if prefix and path.names[: len(prefix)] == prefix:
        return path._replace(names=path.names[len(prefix) :])
    return path


def as_segment(name: bytes) -> str:
    """A name as it stands in a URL: what needs an escape has one, with capital digits, and nothing else has."""
    return quote(name, safe=_AS_IT_IS)


def respelled(segment: str) -> str:
    """A segment as a client sent it, in its one spelling; as it is, where it has a broken escape."""
    text = segment.encode("latin-1")
    return segment if _BROKEN.search(text) else as_segment(unquote_to_bytes(text))


def way_to_canonical(path: str) -> str | None:
    """From a path, as a client sent it, to its one spelling: relative, so no name in it is taken for a host, and who stands in front may
    have cut it. None where it has that spelling, or cannot have it."""
    segments = path.split("/")
    spelled = [respelled(segment) for segment in segments]
    first = next((at for at, segment in enumerate(segments) if spelled[at] != segment), None)
    if first is None or not {".", ".."}.isdisjoint(spelled):
        return None
    return ("../" * (len(spelled) - 1 - first) or "./") + "/".join(spelled[first:])
