"""A JSON Web Token in its compact form (RFC 7515 section 7.1, RFC 7519), taken apart. Nothing that it says is believed here."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

LONGEST: Final = 16 * 1024
"""Bytes of a token that is looked at."""

_PART: Final = re.compile(rb"[A-Za-z0-9_-]*")
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By the characters beyond a multiple of four: those with which base64 can end, so that there is one spelling of a part."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


class BadToken(ValueError):
    """What is no token, or one with something in it that nobody here understands."""


class Token(NamedTuple):
    """One whose signature is still to be looked at."""

    alg: str
    kid: str | None
    signed: bytes
    """What the signature is of."""
    payload: bytes
    signature: bytes


def parse(text: bytes) -> Token:
    """Raises BadToken for whatever is none."""
    if len(text) > LONGEST:
        raise BadToken("it is too long")
    parts = text.split(b".")
    if len(parts) != 3:
        raise BadToken("it has not three parts")
    head, payload, signature = parts
    header = json_object(decoded(head))
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        raise BadToken("its header names no algorithm")
    if kid is not None and not isinstance(kid, str):
        raise BadToken("the kid in its header is no text")
    if "crit" in header:
        raise BadToken("its header has extensions that have to be understood")  # RFC 7515 section 4.1.11: none is
    return Token(alg, kid, text[: len(head) + 1 + len(payload)], decoded(payload), decoded(signature))


def decoded(part: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2). Raises BadToken for anything else."""
    if not _PART.fullmatch(part):
        raise BadToken("it is not base64url")
    rest = len(part) & 3
    if rest and (rest == 1 or part[-1] not in _LAST[rest]):
        raise BadToken("it is not base64url")
    return base64.urlsafe_b64decode(part + b"==="[: -rest & 3])


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def json_object(text: bytes) -> Mapping[str, Any]:
    """Raises BadToken for what is no JSON object (RFC 8259) in UTF-8."""
    try:
        return _OBJECT.decode(text)
    except (ValueError, RecursionError):  # msgspec's own are ValueErrors
        raise BadToken("it is no JSON object") from None
