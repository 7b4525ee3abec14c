"""HTTP/2 without TLS: how a client that began in HTTP/1.1 says that it wants it. Pure.

By prior knowledge it begins with the preface of HTTP/2, which an HTTP/1.1 parser sees as
a request line of its own kind (RFC 9113 section 3.3). With `Upgrade: h2c` it asks in an
ordinary request (RFC 7540 section 3.2; RFC 9113 has dropped that, clients have not).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from pingap.stages.http1.rules import RequestHead, tokens

PRIOR_KNOWLEDGE: Final = b"PRI * HTTP/2.0\r\n\r\n"
"""The part of the preface that looks like a request head."""

_SETTINGS: Final = re.compile(rb"(?i)\r\nhttp2-settings:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_CONNECTION: Final = re.compile(rb"(?i)\r\nconnection:([^\r\n]*)")


def asked_settings(head: RequestHead, block: bytes) -> bytes | None:
    """Payload of the SETTINGS frame in a request that asks for h2c as RFC 7540 section 3.2 wants it; None for any other.

    block: the head as it came. A request with a body is answered in HTTP/1.1, and so is one whose HTTP2-Settings is
    missing, doubled, not named by Connection or not base64url.
    """
    if head.length or head.version != 11 or b"h2c" not in tokens(head.upgrade):
        return None
    found = _SETTINGS.findall(block)
    if len(found) != 1 or b"http2-settings" not in tokens(b",".join(_CONNECTION.findall(block))):
        return None
    try:
        return base64.b64decode(found[0] + b"=" * (-len(found[0]) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
