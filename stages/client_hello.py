"""The name that a TLS client asks for, read from its first message before the TLS library sees it.

Python's `ssl` decodes the name as ASCII before it asks anybody, and fails the handshake with a traceback on stderr where it is
not: whoever wants to could fill the log of a service and would not get the default certificate. So the name is looked at first.
"""

from __future__ import annotations

from typing import Final

_RECORD_HEADER: Final = 5
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_LONGEST: Final = 64 * 1024
"""Bytes of a message that are waited for; longer ones are the library's to refuse."""


def server_name(data: bytes) -> bytes | None:
    """The host name in the ClientHello that `data` begins with (RFC 8446 section 4.1.2, RFC 6066 section 3).

    None while the message is not complete; b"" when it names nobody or is none: then it is the library that says what is wrong.
    """
    message = bytearray()
    at = 0
    while True:  # a message may be spread over records (RFC 8446 section 5.1)
        if len(message) >= 4:
            size = 4 + int.from_bytes(message[1:4], "big")
            if message[0] != _CLIENT_HELLO or size > _LONGEST:
                return b""
            if len(message) >= size:
                return _name_in(bytes(message[4:size]))
        if len(data) < at + _RECORD_HEADER:
            return None
        length = int.from_bytes(data[at + 3 : at + _RECORD_HEADER], "big")
        if data[at] != _HANDSHAKE or not length:
            return b""
        at += _RECORD_HEADER
        if len(data) < at + length:
            return None
        message += data[at : at + length]
        at += length


def _name_in(hello: bytes) -> bytes:
    try:
        at = 34 + 1 + hello[34]  # version, random, session
        at += 2 + int.from_bytes(hello[at : at + 2], "big")  # ciphers
        at += 1 + hello[at]  # compression
        end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 2
        while at + 4 <= end:
            kind, length = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
            at += 4
            if kind == _SERVER_NAME and length >= 5 and hello[at + 2] == _HOST_NAME:
                size = int.from_bytes(hello[at + 3 : at + 5], "big")
                return hello[at + 5 : at + min(5 + size, length)]
            at += length
    except IndexError:
        pass
    return b""
