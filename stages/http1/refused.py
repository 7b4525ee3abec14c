"""What a refused request has said of itself, for the log. Nothing is decided by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pingap.stages.http1.rules import VALUE, RequestHead
from pingap.stages.messages import UNKNOWN

MOST: Final = 2048
"""Bytes of a target that the log gets to see."""

MOST_OF_A_LINE: Final = 512
"""The same of a header's value."""

_LOOKED_AT: Final = 64 * 1024
_START: Final = re.compile(rb"([!#-'*+\-.0-9A-Z^-z|~]{1,32}) ([^ \r\n]+)")
_VERSION: Final = re.compile(rb"[^\r\n]* HTTP/([0-9])\.([0-9])[ \t]*\r?\n")
_METHOD: Final = re.compile(rb"[!#-'*+\-.0-9A-Z^-z|~]{1,32}")
_ODD: Final = re.compile(rb"[^!-~]")
_SHOWN: Final = (b"user-agent", b"referer")
"""What access logs usually have, besides Host."""
_LINES: Final = re.compile(rb"(?i)\n(host|user-agent|referer)[ \t]*:[ \t]*([^\r\n]*)")
_CONTROLS: Final = bytes(set(range(256)) - set(VALUE))


def start_of(head: bytes) -> RequestHead:
    """A head, or the begin of one, as far as it can be read: its start line, Host, User-Agent and Referer.

    version: 0 when none can be read.
    """
    match = _START.match(head, 0, _LOOKED_AT)
    version = _VERSION.match(head, 0, _LOOKED_AT)
    method, target = (match[1], match[2]) if match is not None else (b"", b"")
    found = sketch(method, target, int(version[1] + version[2]) if version is not None else 0)
    said = {name.lower(): value for name, value in reversed(_LINES.findall(head, 0, _LOOKED_AT))}
    return with_headers(found, said.get(b"host", b""), said)


def sketch(method: bytes, target: bytes, version: int) -> RequestHead:
    """A head of which no more is known. What no target may have is escaped."""
    if not _METHOD.fullmatch(method):
        method = target = b""
    shown = _ODD.sub(lambda found: b"%%%02X" % found[0][0], target[:MOST])
    return RequestHead(method, shown, version, b"", b"", UNKNOWN, False, False, b"")


def with_headers(head: RequestHead, host: bytes, said: Mapping[bytes, bytes]) -> RequestHead:
    """The same head with what can be shown of its Host, and of the headers that logs have (`said`: lower-case name → value)."""
    lines = b"".join(b"%b: %b\r\n" % (name, _readable(said[name])) for name in _SHOWN if said.get(name))
    host = _readable(host)
    return head._replace(host=host.lower(), headers=b"host: %b\r\n%b" % (host, lines) if host else lines)


def _readable(value: bytes) -> bytes:
    return value[:MOST_OF_A_LINE].translate(None, _CONTROLS).strip(b" \t")
