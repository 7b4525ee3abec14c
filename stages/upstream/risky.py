"""Requests over which backends end a whole connection of HTTP/2, and so the requests of everybody else on it.

A head that a server finds too large it may answer (431) or give up with its stream. nginx, HAProxy and Go end the
connection: what a block has in it beyond their limit they do not read, and then the tables of HPACK part (RFC 9113
section 10.5.1). nginx does so over trailers as well, which it does not know. What they will take they do not say, or
not all of it, so such requests get a connection on which nobody else is.
"""

from __future__ import annotations

from typing import Final

from pingap.stages.itinerary import NO_TRAILERS
from pingap.stages.messages import Routed

SMALL: Final = 480
"""Bytes of header block and target up to which nothing can be too much of anything."""

LONG: Final = 4096
"""Bytes of one line or of a target, and of trailers: nginx's http2_max_field_size was that, large_client_header_buffers is 8 KiB."""

LARGE: Final = 12 * 1024
"""Bytes of a head: HAProxy has a buffer of 16 KiB for it, nginx had http2_max_header_size, the same."""

MANY: Final = 90
"""Lines: HAProxy takes 101, its own and the pseudo fields among them, Apache httpd 100."""

FIELD: Final = 32
"""What each field counts in SETTINGS_MAX_HEADER_LIST_SIZE besides its name and value (RFC 9113 section 6.5.2)."""


def is_large(target: bytes, headers: bytes) -> bool:
    """The head is more than any server is sure to take. headers: normal form."""
    size = len(target) + len(headers)
    if size <= SMALL:
        return False
    if size > LARGE or len(target) > LONG or headers.count(b"\n") > MANY:
        return True
    return len(headers) > LONG and any(len(line) > LONG for line in headers.split(b"\r\n"))


def announces_trailers(routed: Routed) -> bool:
    """Trailers may come after the body, and its head says so (RFC 9110 section 6.6.2)."""
    if routed.ended or routed.plan & NO_TRAILERS:
        return False
    headers = routed.headers
    return headers.startswith(b"trailer: ") or headers.find(b"\ntrailer: ") >= 0


def exceeds(limit: int, target: bytes, headers: bytes) -> bool:
    """The field list is larger than the backend's SETTINGS_MAX_HEADER_LIST_SIZE.

    The four or five pseudo fields are counted with what they have at the most besides target and Host, 128 bytes, and an
    authority as Host: a few bytes too many near the limit.
    """
    size = len(target) + len(headers) + 128
    if size * 7 <= limit:
        return False  # a line has five bytes at least, and counts 33 then
    # Of a line b": " and the line's end do not count.
    return size + 4 * FIELD + (FIELD - 4) * headers.count(b"\n") > limit
