"""Who a certificate is for, and who has issued it, as one line: RFC 2253 as OpenSSL has it (X509_NAME_print_ex with XN_FLAG_RFC2253).

nginx's `$ssl_client_s_dn` is made by that, so whoever compares it with what they have on file gets the same here. It is ASCII, and
has no control characters: those, and all bytes of other characters, are written as a backslash and two hexadecimal digits.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Final

from pingap.stages.client_certificates.der import Value, oid

_WIDTHS: Final = {12: 0, 18: 1, 19: 1, 20: 1, 22: 1, 23: 1, 24: 1, 26: 1, 28: 4, 30: 2}
"""Number of a kind of string → bytes of one character; 0 is UTF-8. What is no such kind is shown as it is in DER."""

_ALWAYS: Final = b',+"<>;\\'
_FIRST: Final = b" #"
_LAST: Final = b" "


def distinguished_name(name: Value) -> str:
    """name: a Name of RFC 5280 section 4.1.2.4; the last of its parts comes first. Raises ValueError."""
    steps = []
    for relative in reversed(name.parts()):
        steps.append("+".join(_one(entry) for entry in reversed(relative.parts())))
    return ",".join(steps)


def _one(entry: Value) -> str:
    kind, text, *_ = entry.parts()
    dotted = oid(kind.content)
    short = _short(dotted)
    return f"{short or dotted}={_escaped(text) if short else _dumped(text)}"


@lru_cache(256)
def _short(dotted: str) -> str:
    """The short name that the TLS library has for it: `CN`; "" when it does not know it."""
    try:
        return str(ssl._ASN1Object(dotted).shortname)
    except ValueError:
        return ""


def _dumped(text: Value) -> str:
    return "#" + text.whole.hex().upper()


def _escaped(text: Value) -> str:
    width = _WIDTHS.get(text.tag)
    if width is None or (width and len(text.content) % width):
        return _dumped(text)
    content = text.content if width == 0 else _as_utf8(text.content, width)
    written = []
    last = len(content) - 1
    for at, byte in enumerate(content):
        if byte in _ALWAYS or (at == 0 and at != last and byte in _FIRST) or (at == last and byte in _LAST):
            written.append("\\" + chr(byte))
        elif byte < 0x20 or byte >= 0x7F:
            written.append(f"\\{byte:02X}")
        else:
            written.append(chr(byte))
    return "".join(written)


def _as_utf8(content: bytes, width: int) -> bytes:
    """Raises ValueError for what is no character."""
    numbers = [int.from_bytes(content[at : at + width], "big") for at in range(0, len(content), width)]
    return "".join(map(chr, numbers)).encode("utf-8", "surrogatepass")
