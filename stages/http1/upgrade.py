"""Upgrade (RFC 9110 section 7.8): which of the protocols that a client offers a backend gets to see."""

from __future__ import annotations

import re
from typing import Final

_PROTOCOL: Final = re.compile(rb"[!#-'*+\-.0-9A-Z^-z|~]+(?:/[!#-'*+\-.0-9A-Z^-z|~]+)?")


def protocol_to_tunnel(upgrade: bytes) -> bytes:
    """Of the protocols of an Upgrade header (lower case) the one to ask the backend for, or b"" (RFC 9110 section 7.8).

    HTTP/2 and TLS would be spoken on this hop only, and behind a tunnel nobody would look at their requests.
    """
    for name in upgrade.split(b","):
        name = name.strip(b" \t")
        if _PROTOCOL.fullmatch(name) and not name.startswith((b"h2", b"tls/")):
            return name
    return b""
