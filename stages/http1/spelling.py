"""Header names as they were written, for the servers and upstreams that keep them so (`preserve_header_case`).

HTTP does not look at the case of a name (RFC 9110 section 5.1); firmware that compares with strcmp does. Everything between
a parser and a writer has names in lower case all the same: the spellings travel beside the block, one for each name of the
head, and the writer looks up what it writes. So nothing that was taken out can come back with them, and what nobody has spelled
(a line that pingap adds, one of a plugin, all that came over HTTP/2) gets the usual spelling: `X-Forwarded-For`, `ETag`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

Spelled = tuple[bytes, ...]
"""At most one spelling of each name."""

LONGEST: Final = 64
"""Bytes of a name of which it is remembered how it is usually spelled."""

_NAMES: Final = re.compile(rb"\r\n([!#$%&'*+\-.^_`|~0-9A-Za-z]+):")
_ODD: Final = {
    name.lower(): name
    for name in b"""
    Accept-CH AMP-Cache-Transform CF-IPCountry CF-RAY Content-DPR Content-MD5 DASL DAV DNT DPR ECT ETag Expect-CT HTTP2-Settings IM
    Last-Event-ID MIME-Version NEL Origin-Agent-Cluster RTT SOAPAction Sec-CH-UA Sec-CH-UA-Arch Sec-CH-UA-Bitness
    Sec-CH-UA-Full-Version-List Sec-CH-UA-Mobile Sec-CH-UA-Model Sec-CH-UA-Platform Sec-CH-UA-Platform-Version Sec-GPC
    Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version SourceMap TCN TE
    WWW-Authenticate X-DNS-Prefetch-Control X-Real-IP X-Request-ID X-UA-Compatible X-XSS-Protection
    """.split()
}
"""Names that are usually spelled in another way than with a capital for each word."""


def spelled_in(head: bytes) -> Spelled:
    """The names of a head that a parser has taken, as they are written; of a name in several spellings the last."""
    return tuple({name.lower(): name for name in _NAMES.findall(head)}.values())


def respelled(block: bytes, spelled: Spelled) -> bytes:
    """A block in normal form with its names spelled so, the others as usual. An empty line at its end stays."""
    known = {name.lower(): name for name in spelled}
    lines = block.split(b"\r\n")
    for at, line in enumerate(lines):
        name, colon, value = line.partition(b":")
        if colon:
            lines[at] = (known.get(name) or usual(name)) + colon + value
    return b"\r\n".join(lines)


def usual(name: bytes) -> bytes:
    """How a name (lower case) is usually spelled."""
    return _remembered(name) if len(name) <= LONGEST else _usual(name)


def _usual(name: bytes) -> bytes:
    return _ODD.get(name) or b"-".join([word.capitalize() for word in name.split(b"-")])


_remembered: Final = lru_cache(1024)(_usual)
