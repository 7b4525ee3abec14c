"""`request_id`: gives a request an id, unless it brings one.

An empty one is none. The backend gets it in the header, access logs show it as `{request_id}`, and the client finds it as
`X-Request-Id` in the backend's answer, whatever `header_name` says, in place of one that the backend wrote. A plugin of yours
that sets the context key `request_id` has the same done.

Unlike pingap 0.13.9: an unknown `algorithm` is refused instead of ignored.
"""

from __future__ import annotations

from os import urandom
from random import getrandbits
from time import time_ns
from typing import Annotated, Final, Literal

from pydantic import Field

from pingap.plugin import CONTINUE, Exchange, HeaderName, Plugin, Result, Settings

_ALPHABET: Final = bytes(b"_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[byte & 63] for byte in range(256))
"""Byte → character: 256 is a multiple of 64, so that all are equally likely."""


class RequestIdSettings(Settings):
    algorithm: Literal["uuid", "nanoid"] = "uuid"
    """`"uuid"` is version 7, which sorts by time; `"nanoid"` is short."""
    size: Annotated[int, Field(ge=1, le=256)] = 8
    """Characters of a nanoid."""
    header_name: HeaderName = "X-Request-Id"
    """The header that is read and written."""


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds, then 74 random bits."""
    random = getrandbits(74)
    value = ((time_ns() // 1_000_000) << 80) | 0x7000 << 64 | (random >> 62) << 64 | 0x8 << 60 | (random & 0x3FFFFFFFFFFFFFFF)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def nanoid(size: int) -> str:
    """Random characters that are safe in a URL."""
    return urandom(size).translate(_ALPHABET).decode()


class RequestId(Plugin[RequestIdSettings]):
    category = "request_id"
    model = RequestIdSettings
    steps = ("request", "proxy_upstream")

    def __init__(self, settings: RequestIdSettings) -> None:
        super().__init__(settings)
        self._line = settings.header_name.lower().encode("latin-1", "replace") + b": "
        self._size = settings.size if settings.algorithm == "nanoid" else 0

    def request(self, exchange: Exchange) -> Result:
        headers = exchange.headers
        given = headers.first(self._line)
        if given:
            exchange.context["request_id"] = given.decode("latin-1")
            return CONTINUE
        size = self._size
        name = nanoid(size) if size else uuid7()
        exchange.context["request_id"] = name
        if given is None:
            headers.raw += b"%b%b\r\n" % (self._line, name.encode())
        else:  # an empty one is none
            headers.set(self.settings.header_name, name)
        return CONTINUE
