"""OPTIONS that is for pingap itself: about the server as a whole, or to go no further than here."""

from __future__ import annotations

from typing import Final

from pingap.stages.headers import cutter, value_of

_LIMIT: Final = b"max-forwards"
_DIGITS: Final = 9
_cut = cutter((_LIMIT,))


def passed_on(target: bytes, headers: bytes) -> bytes | None:
    """The header block with which an OPTIONS request goes on; None when it ends here.

    `*` asks what this server can do, whoever stands behind it (RFC 9110 section 9.3.7). Max-Forwards counts the proxies
    that a request may still pass, and this is one (section 7.6.2); what is no number is no limit and passes as it is.
    """
    if target == b"*":
        return None
    value = value_of(headers, _LIMIT)
    if value is None or not value.isdigit() or len(value) > _DIGITS:
        return headers
    hops = int(value)
    return _cut(headers) + b"%b: %d\r\n" % (_LIMIT, hops - 1) if hops else None
