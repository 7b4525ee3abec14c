"""Reason phrases (RFC 9112 section 4): those of the registry, and which of a backend's own are passed on.

Over HTTP/2 there is none. Software that reads it instead of the status, or shows it to people, is old but in use.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

REASONS: Final[dict[int, bytes]] = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}

UNKNOWN_STATUS: Final = b"Unknown"
"""Of a status that the registry does not have."""

LONGEST: Final = 200
"""Bytes of a phrase that is passed on."""

_VISIBLE: Final = bytes([*range(32, 127), *range(160, 256)])
"""Text of ASCII and Latin-1. Neither tab nor C1 controls: there are readers to whom U+0085 ends a line."""


def reason_of(line: bytes) -> bytes:
    """The phrase of a status line that a parser has taken (without its CRLF), if it is one to be passed on.

    b"" when the status has that one anyway, and for one that is empty, too long, or not text all through.
    """
    reason = line[13:].strip(b" ")
    if len(reason) > LONGEST or reason.translate(None, _VISIBLE) or REASONS.get(int(line[9:12]), UNKNOWN_STATUS) == reason:
        return b""
    return reason
