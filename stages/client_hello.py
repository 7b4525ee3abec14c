"""What a TLS client asks for, read from its first message before the TLS library sees it: a name, and an authority its proof.

Python's `ssl` decodes the name as ASCII before it asks anybody, and fails the handshake with a traceback on stderr where it is
not: whoever wants to could fill the log of a service and would not get the default certificate. So the name is looked at first.
And who offers `acme-tls/1` alone is an authority that looks for a proof (RFC 8737 section 3), for which there is a certificate of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_RECORD_HEADER: Final = 5
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_HOST_NAME: Final = 0
_LONGEST: Final = 64 * 1024
"""Bytes of a message that are waited for; longer ones are the library's to refuse."""


ACME_TLS: Final = "acme-tls/1"
"""The protocol of who looks for a proof (RFC 8737 section 6.2)."""

_ONLY_ACME: Final = b"\0\x0b\x0a" + ACME_TLS.encode()
"""The list of protocols that it offers."""


class Hello(NamedTuple):
    """What is said of a ClientHello."""

    name: bytes = b""
    """The host that it names; b"" when it names none, or is no ClientHello: then it is the library that says what is wrong."""
    is_acme: bool = False
    """It offers ACME_TLS and nothing else."""


_NOTHING: Final = Hello()

RECORDS: Final = 200
"""That are read at once: anybody may send them with one byte each, and then this takes 0.3 ms."""


class HelloReader:
    """Of the ClientHello with which what a client says begins (RFC 8446 section 4.1.2, RFC 6066 section 3), each byte read once."""

    __slots__ = ("_at", "_message", "data", "has_more")

    def __init__(self) -> None:
        self.data = bytearray()
        """All that has come. Whoever hears more appends it."""
        self.has_more = False
        """There are records that have not been read yet: for another turn."""
        self._at = 0
        """How far it has been read; always the beginning of a record."""
        self._message = bytearray()

    def read(self) -> Hello | None:
        """None while it is not complete, or not read to its end."""
        data, message = self.data, self._message
        at = self._at
        self.has_more = False
        for _ in range(RECORDS):  # a message may be spread over records (RFC 8446 section 5.1)
            if len(message) >= 4:
                size = 4 + int.from_bytes(message[1:4], "big")
                if message[0] != _CLIENT_HELLO or size > _LONGEST:
                    return _NOTHING
                if len(message) >= size:
                    return _read(bytes(message[4:size]))
            if len(data) < at + _RECORD_HEADER:
                return None
            length = int.from_bytes(data[at + 3 : at + _RECORD_HEADER], "big")
            if data[at] != _HANDSHAKE or not length:
                return _NOTHING
            end = at + _RECORD_HEADER + length
            if len(data) < end:
                return None
            message += data[at + _RECORD_HEADER : end]
            self._at = at = end
        self.has_more = True
        return None


def _read(hello: bytes) -> Hello:
    name, is_acme = b"", False
    try:
        at = 34 + 1 + hello[34]  # version, random, session
        at += 2 + int.from_bytes(hello[at : at + 2], "big")  # ciphers
        at += 1 + hello[at]  # compression
        end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 2
        while at + 4 <= end:
            kind, length = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
            at += 4
            if kind == _SERVER_NAME and not name and length >= 5 and hello[at + 2] == _HOST_NAME:
                until = at + min(5 + int.from_bytes(hello[at + 3 : at + 5], "big"), length)
                name = hello[at + 5 : until]
            elif kind == _ALPN:
                is_acme = hello[at : at + length] == _ONLY_ACME
            at += length
    except IndexError:
        pass
    return Hello(name, is_acme)
