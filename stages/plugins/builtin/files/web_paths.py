"""From the path of a URL to the names of a file below a directory. Decides; looks at no disk.

Each file has one path, and other spellings of it are not found: `//a`, `/./a`, `/x/../a`, `/a%2Fb`. Locations compare the path as it
was sent, so a spelling that leads to the same file by another location would lead around the plugins of its own.
`normalize_path` of the server makes them one before locations are looked at.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

_BROKEN: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

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


def web_path(path: bytes) -> WebPath:
    """path: as it was sent, percent-encoded. Raises NoPath."""
    if not path.startswith(b"/"):
        raise NoPath(400)
    names = path[1:].split(b"/")
    if is_folder := not names[-1]:
        names.pop()
    if path.find(b"%") >= 0:
        if _BROKEN.search(path):
            raise NoPath(400)
        names = [unquote_to_bytes(name) for name in names]
    for name in names:
        if name.find(b"\0") >= 0:
            raise NoPath(400)
        if name == b"..":
            raise NoPath(403)
        if not name or name == b"." or name.find(b"/") >= 0:
            raise NoPath(404)
    return WebPath(tuple(names), is_folder)


def is_hidden(names: tuple[bytes, ...]) -> bool:
    """A name begins with a dot, `.well-known` as the first excepted."""
    return any(name.startswith(b".") for name in (names[1:] if names[:1] == (WELL_KNOWN,) else names))


def without_prefix(path: WebPath, prefix: tuple[bytes, ...]) -> WebPath:
    """The path below `prefix`; as it is, where it is not below that."""
    if prefix and path.names[: len(prefix)] == prefix:
        return WebPath(path.names[len(prefix) :], path.is_folder)
    return path


def as_segment(name: bytes) -> str:
    """A name as it stands in a URL."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in name)


_UNRESERVED: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
