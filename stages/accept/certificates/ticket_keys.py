"""The key of a server's session tickets, made of a secret that all accept replicas have."""

from __future__ import annotations

import hmac
from typing import Final

from pingap.config.model import Server
from pingap.stages.accept.certificates.contexts import client_rules
from pingap.stages.accept.certificates.openssl import TICKET_KEY

SECRET: Final = 32
"""Bytes of one."""


def ticket_key(secret: bytes, name: str, server: Server) -> bytes:
    """HKDF-Expand (RFC 5869 section 2.3) with SHA-256. name: of the section.

    Whom a ticket proves its holder to be was found out under the settings of then: where others hold, its key is another one.
    """
    told = (name, server.tls_min_version, server.tls_max_version, *client_rules(server))
    info = b"pingap session tickets" + b"".join(len(one).to_bytes(4, "big") + one for one in (text.encode() for text in told))
    key = block = b""
    number = 0
    while len(key) < TICKET_KEY:
        number += 1
        block = hmac.digest(secret, block + info + bytes((number,)), "sha256")
        key += block
    return key[:TICKET_KEY]
