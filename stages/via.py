"""The Via line of requests that go on (RFC 9110 section 7.6.3), for servers that are to name themselves."""

from __future__ import annotations

from typing import Final

from pingap.stages.headers import values_of

_VERSIONS: Final = {10: b"1.0", 11: b"1.1", 20: b"2.0"}


class Via:
    """Of one server."""

    __slots__ = ("_lines", "_name")

    def __init__(self, name: str) -> None:
        """name: how this proxy is called in Via lines, a token or `host:port`."""
        self._name = name.lower().encode()
        self._lines = {version: b"via: %b %b\r\n" % (text, name.encode()) for version, text in _VERSIONS.items()}

    def line(self, version: int) -> bytes:
        """What comes behind the Via lines that a request of this version has. Each hop says what it was spoken to in."""
        return self._lines[version]

    def is_loop(self, headers: bytes) -> bool:
        """The request has been here before: one of its hops has our name."""
        if headers.find(b"via: ") < 0:
            return False
        hops = b",".join(values_of(headers, b"via")).lower().split(b",")
        return any(hop.split()[1:2] == [self._name] for hop in hops)
