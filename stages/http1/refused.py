"""What a refused request has said of itself, for the log. Nothing is decided by it."""

from __future__ import annotations

import re
from typing import Final

from stages.http1.rules import RequestHead
from stages.messages import UNKNOWN

MOST: Final = 2048
"""Bytes of a target that the log gets to see."""

_START: Final = re.compile(rb"([!#-'*+\-.0-9A-Z^-z|~]{1,32}) ([^ \r\n]+)(?: HTTP/1\.([01])\r\n)?")
_METHOD: Final = re.compile(rb"[!#-'*+\-.0-9A-Z^-z|~]{1,32}")
_ODD: Final = re.compile(rb"[^!-~]")


def start_of(head: bytes) -> RequestHead:
    """The start line of a head, or of the begin of one, as far as it can be read; no headers."""
    match = _START.match(head, 0, 64 * 1024)
    if match is None:
        return sketch(b"", b"", 11)
    return sketch(match[1], match[2], 10 if match[3] == b"0" else 11)


def sketch(method: bytes, target: bytes, version: int) -> RequestHead:
    """A head of which no more is known. What no target may have is escaped."""
    if not _METHOD.fullmatch(method):
        method = target = b""
    shown = _ODD.sub(lambda found: b"%%%02X" % found[0][0], target[:MOST])
    return RequestHead(method, shown, version, b"", b"", UNKNOWN, False, False, b"")
