"""What the log says of a backend's GOAWAY."""

from __future__ import annotations

from typing import Final

from pingap.stages.http2.engine import LAST_STREAM, NO_ERROR, GoAway

NAMES: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""Of the error codes, RFC 9113 section 7."""

LONGEST_DEBUG: Final = 200
"""Bytes of debug data that are told."""


def words_of(event: GoAway) -> str:
    """Code, the last stream that the backend has looked at, and its own text, without what does not belong into a log."""
    if event.code == NO_ERROR and not event.debug:
        return "GOAWAY"
    name = f" {NAMES[event.code]}" if event.code < len(NAMES) else ""
    last = "" if event.last_stream_id == LAST_STREAM else f", last stream {event.last_stream_id}"
    text = event.debug[:LONGEST_DEBUG].decode("ascii", "backslashreplace")
    said = "".join(char if char.isprintable() else "?" for char in text)
    return f"GOAWAY, error {event.code}{name}{last}" + (f": {said}" if said else "")
