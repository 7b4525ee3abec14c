"""One file as it is answered: what is sent of it, and the lines before that. Made in threads, for it may read the file."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, Final, NamedTuple

from pingap.plugin import FileBody, Reply, Validators, reply
from pingap.stages.plugins.builtin.files.media_types import attachment, type_of
from pingap.stages.plugins.builtin.files.tree import DiskPlace, Identity, identity_of

SMALL: Final = 256 * 1024 - 1
"""Bytes of a file that is read at once, and kept. Longer ones are read as the client takes them, or named to accept and sent by the
kernel (`FileBody`), which costs less only from there on."""

UNSETTLED: Final = 2_000_000_000
"""Nanoseconds. A file that was changed so lately may change again without its times telling: they move in steps."""


class Style(NamedTuple):
    """How all files of a plugin are answered."""

    cache_control: str
    """Of all but HTML."""
    charset: str
    """Of text; "" for none."""
    headers: tuple[tuple[str, str], ...]
    """More lines, in place of ours of that name."""
    is_download: bool
    varies: bool
    """By Accept-Encoding."""
    types: Mapping[str, str]
    piece: int
    """Bytes of one read."""
    in_thread: Callable[..., Awaitable[Any]]


class ServedFile:
    """A file, open."""

    __slots__ = ("body", "content", "identity", "is_settled", "known", "lines", "whole")

    def __init__(self, place: DiskPlace, name: bytes, coding: str, style: Style, now: int) -> None:
        """place: its descriptor becomes ours. name: of the file that was asked for, which may be without the ending of its coding.
        now: nanoseconds since 1970. Raises OSError."""
        self.body = FileBody(place.path, descriptor=place.descriptor, piece=style.piece, in_thread=style.in_thread)
        status = place.status
        self.identity: Identity = identity_of(status)
        changed = max(status.st_ctime_ns, status.st_mtime_ns if status.st_mtime_ns <= now else 0)
        self.is_settled = changed + UNSETTLED <= now
        """Whoever changes it from now on changes its identity."""
        self.known = _validators(status, coding, self.is_settled, now)
        self.content: bytes | None = None
        """All of it, where it is small."""
        if self.body.size <= SMALL:
            self.content = _read(place.descriptor, self.body.size)
        kind = type_of(name, style.types)
        is_page = kind in ("text/html", "application/xhtml+xml")
        if style.charset and kind.startswith("text/"):
            kind = f"{kind}; charset={style.charset}"
        lines = [("content-type", kind), ("accept-ranges", "bytes")]
        # A page is asked for again and again, so that it never names files of another version for long.
        lines.append(("cache-control", "private, no-cache" if is_page else style.cache_control))
        if self.known.etag:
            lines.append(("etag", self.known.etag.decode()))
        if self.known.modified_line:
            lines.append(("last-modified", self.known.modified_line.decode()))
        if coding or name.lower().endswith(b".svgz"):
            lines.append(("content-encoding", coding or "gzip"))
        if style.varies:
            lines.append(("vary", "accept-encoding"))
        if style.is_download:
            lines.append(("content-disposition", attachment(name)))
        named = {header for header, _ in style.headers}
        self.lines = [*(line for line in lines if line[0] not in named), *style.headers]
        self.whole: Reply = reply(200, self.body if self.content is None else self.content, self.lines)

    @property
    def size(self) -> int:
        return self.body.size


def _validators(status: os.stat_result, coding: str, is_settled: bool, now: int) -> Validators:
    """No file was made in the first second of 1970: who builds what is always the same sets all times to it, and they tell nothing."""
    seconds = status.st_mtime_ns // 1_000_000_000
    if seconds <= 1:
        return Validators(b"", 0, b"", False)
    tag = f'{"" if is_settled else "W/"}"{status.st_mtime_ns:x}-{status.st_size:x}{coding and "-" + coding}"'.encode()
    if status.st_mtime_ns > now:  # Last-Modified is never later than Date (RFC 9110 section 8.8.2.1)
        return Validators(tag, 0, b"", False)
    return Validators(tag, seconds, formatdate(seconds, usegmt=True).encode(), is_settled)


def _read(descriptor: int, size: int) -> bytes | None:
    """None when it has become shorter meanwhile: then it is answered, and cut off, as a long one."""
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            return None
        parts.append(part)
        at += len(part)
    return b"".join(parts)
