"""Discovery `transparent`: each request says itself where it goes, within what the configuration allows. Pure.

A backend here is a host and a port that somebody has asked for. There may be any number of them, so of those that nobody uses the ones
that were asked for last are kept, and nothing is told of any of them: neither discovery nor metrics know them one by one.
What a host comes to is judged when a connection is opened (dial.py), by the very address that is then connected to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.objections import Objections
from pingap.stages.upstream.tally import Tally

TRANSPARENT: Final = "transparent"
"""As in `config.model.Upstream.discovery`."""

MOST: Final = 1024
"""Backends of one upstream that are kept though nobody uses them."""

LOOKS: Final = 64
"""At that many of them is looked for one to forget."""

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_PORT: Final = re.compile(r"[0-9]{1,5}")


class NoDestination(NamedTuple):
    """A request goes nowhere."""

    kind: str
    """In stages/errors.py."""
    reason: str
    """For the log."""


class Nobody:
    """Who is told of what happens at these backends."""

    def touched(self, tally: Tally) -> None:
        """As a TallyKeeper has it."""

    def hurry(self) -> None:
        """As a TallyKeeper has it."""


NOBODY: Final = Nobody()


class Transparent:
    """The destinations of one upstream's requests."""

    __slots__ = ("_default", "_is_open", "_make", "_objections", "_ports", "backends", "own_ports")

    def __init__(self, settings: Upstream, make: Callable[[Backend], BackendState], is_open: bool = False) -> None:
        """is_open: any address and any port will do, as it is no client who says where a request goes."""
        self._is_open = is_open
        self._make = make
        self._default = 443 if settings.sni else 80
        self._ports = frozenset(settings.transparent_ports)
        self._objections = Objections(settings.transparent_networks)
        self.own_ports: set[int] = set()
        """At which this very proxy listens."""
        self.backends: dict[tuple[str, int], BackendState] = {}
        """Least recently asked for first."""

    def find(self, authority: bytes) -> BackendState | NoDestination:
        """Where a request goes. authority: the host that it asks for, perhaps with a port."""
        text = authority.decode("latin-1").lower()
        host, port = self._split(text)
        if not host:
            return NoDestination("bad_request", f"{text!r} is no host" if text else "it names no host")
        if self._ports and port not in self._ports:
            return NoDestination("destination_refused", f"port {port} is not in transparent_ports")
        key = (host, port)
        backend = self.backends.pop(key, None)
        if backend is None:
            backend = self._make(Backend(host, port))
            if len(self.backends) >= MOST:
                self._make_room()
        self.backends[key] = backend
        return backend

    def _split(self, text: str) -> tuple[str, int]:
        """(host, port); no host for what can be none."""
        if text.startswith("["):
            inner, closed, rest = text[1:].partition("]")
            try:
                host = str(ipaddress.IPv6Address(inner))
            except ValueError:
                return "", 0
            if not closed or "%" in host:  # a zone means something on this host only
                return "", 0
        else:
            name, colon, after = text.partition(":")
            host, rest = name.removesuffix("."), colon + after
            if not _NAME.fullmatch(host):
                return "", 0
        if rest and rest != ":" and not (rest[0] == ":" and _PORT.fullmatch(rest[1:])):
            return "", 0
        return host, int(rest[1:]) if (self._ports or self._is_open) and len(rest) > 1 else self._default

    def _make_room(self) -> None:
        """Forgets what nobody uses. Those in use are no more than connections and requests, which are bounded elsewhere."""
        for key in list(islice(self.backends, LOOKS)):
            backend = self.backends.pop(key)
            if backend.active or backend.open or backend.pending:
                self.backends[key] = backend
            elif len(self.backends) < MOST:
                return

    def objection(self, host: str, port: int, is_own: bool) -> str:
        """Why a connection to an IP address is not to be made; "" when it may be. is_own: it is an address of this host."""
        if self._is_open:
            return ""
        if is_own and port in self.own_ports:
            return f"{host} port {port} is this proxy itself"
        return self._objections.to(host, is_own)
