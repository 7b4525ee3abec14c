"""When an authority wants a certificate to be renewed (ARI, RFC 9773). Decides only."""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography import x509

from pingap.stages.acme.authority.directory import is_safe
from pingap.stages.acme.authority.forms import base64url, moment
from pingap.stages.acme.authority.problems import shown

LEAST: Final = 60.0
MOST: Final = 86400.0
USUAL: Final = 6 * 3600.0
"""Seconds between two questions: Retry-After is held between the first two (RFC 9773 section 4.3.2); without one it is the third."""


class RenewalWindow(NamedTuple):
    """Some moment in it, by chance, is when to renew; one that lies in the past means now. Seconds since 1970."""

    start: float
    end: float
    ask_again: float
    """Not before that: until then `renewal_window` gives this same answer without asking."""
    explanation: str = ""
    """URL for people; "" when there is none. It is there when something has happened, such as certificates that are to be revoked."""


def certificate_id(leaf: x509.Certificate) -> str:
    """RFC 9773 section 4.1. "": it names no key of its issuer, so it cannot be asked about."""
    try:
        key = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    if key is None:
        return ""
    number = leaf.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # as in DER: a first bit that is set would mean a negative one
    return ".".join(base64url(part) for part in (key, serial))


def read_window(table: dict[str, object], after: float | None, now: float) -> RenewalWindow:
    """after: when the answer says to ask again, seconds since 1970. Raises ValueError."""
    told = table.get("suggestedWindow")
    if not isinstance(told, dict):
        raise ValueError("it has no suggestedWindow")
    start, end = moment(told.get("start")), moment(told.get("end"))
    if end <= start:
        raise ValueError("it ends before it starts")
    wait = USUAL if after is None else min(max(after - now, LEAST), MOST)
    explanation = table.get("explanationURL")
    usable = isinstance(explanation, str) and is_safe(explanation)
    return RenewalWindow(start, end, now + wait, shown(str(explanation)) if usable else "")
