"""Whose connection it is, as the kernel knows it."""

from __future__ import annotations

import asyncio
from typing import Final

MAPPED: Final = "::ffff:"
"""What the kernel writes before an IPv4 address in a socket for both families."""


def origin_of(transport: asyncio.BaseTransport) -> tuple[str, int, str, int]:
    """(ip, port, local ip, local port).

    On a listener for both families an IPv4 client's connection has two mapped addresses (RFC 4291 section 2.5.5.2).
    """
    ip, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    local_ip, local_port = (transport.get_extra_info("sockname") or ("", 0))[:2]
    return ip.removeprefix(MAPPED), port, local_ip.removeprefix(MAPPED), local_port
