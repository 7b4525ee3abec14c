"""Looking up host names without stopping anybody else: threads of our own, one a name, so many in all.

getaddrinfo cannot be called off and may take half a minute for a name that no server answers. The event loop's pool is no
place for that: libuv's runs two such jobs at a time, for addresses that need no lookup as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NamedTuple

from pingap.config.parts import is_path

MOST: Final = 64
"""Lookups under way at the same time, each in a thread that does nothing but wait."""


class Address(NamedTuple):
    """Where to connect to."""

    family: int
    sockaddr: Any
    """What socket.connect takes."""

    @property
    def host(self) -> str:
        """The IP address as text, with its zone where it has one; or the path of a UNIX socket."""
        if self.family == socket.AF_UNIX:
            return str(self.sockaddr)
        host, _, *more = self.sockaddr
        return f"{host}%{more[1]}" if more and more[1] else str(host)


class NoSlot(OSError):
    """There was no thread for a lookup, or not for long enough: this says nothing about the name or who is behind it."""


Resolve = Callable[[str, int], list[Address]]
"""(host name, address family) → addresses, in the order of preference, with port 0. Raises OSError, or ValueError for what can be no name.

It is called in a thread and may take its time."""


def literal(host: str, port: int) -> Address | None:
    """The address that `host`, an IP address or the path of a UNIX socket, is; None if it is a name. Asks nobody."""
    if is_path(host):
        return Address(socket.AF_UNIX, host)
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    except (socket.gaierror, UnicodeError):
        return None
    return Address(found[0][0], found[0][4])


def ask_system(host: str, family: int) -> list[Address]:
    """By the system's rules: its hosts file, its DNS servers, its order of addresses.

    Addresses of a family that this host has none of are left out, loopback aside, which does not count for that.
    """
    is_here = host == "localhost" or host.endswith(".localhost")
    found = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM, 0, 0 if is_here else socket.AI_ADDRCONFIG)
    return [Address(item[0], item[4]) for item in found]


class _Answer(NamedTuple):
    addresses: list[Address]
    failure: Exception | None


class _Lookup:
    """One question and all who wait for its answer."""

    __slots__ = ("answer", "began", "family", "host", "waiting")

    def __init__(self, host: str, family: int, answer: asyncio.Future[_Answer]) -> None:
        self.host, self.family, self.answer = host, family, answer
        self.began = 0.0
        """Monotonic seconds; 0.0 = no thread was free yet."""
        self.waiting = 0


class Lookups:
    """The lookups of one actor. What is asked while the same question is out waits for the same answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, resolve: Resolve = ask_system, most: int = MOST) -> None:
        self._loop = loop
        self._resolve = resolve
        self._free = most
        self._known: dict[tuple[str, int], _Lookup] = {}
        """Under way, or in line."""
        self._line: deque[_Lookup] = deque()

    async def find(self, host: str, port: int, ipv4_only: bool, seconds: float) -> list[Address]:
        """The addresses of a host, at least one. An IP address is its own, at once, and so is the path of a UNIX socket.

        Raises OSError: TimeoutError after so many seconds without an answer, NoSlot if for half of them it could not even be asked.
        ValueError for what can be no name.
        """
        address = literal(host, port)
        if address is not None:
            if ipv4_only and address.family == socket.AF_INET6:
                raise OSError(f"{host} is not IPv4")
            return [address]
        zone = host.partition("%")[2]
        if zone:
            raise OSError(errno.ENODEV, f"there is no network interface {zone} here")
        lookup = self._join(host, socket.AF_INET if ipv4_only else socket.AF_UNSPEC)
        try:
            async with asyncio.timeout(seconds):
                # Shielded: one who waits no longer calls off nothing for the others.
                found, failure = await asyncio.shield(lookup.answer)
        except TimeoutError:
            if not lookup.began or monotonic() - lookup.began < seconds / 2:
                raise NoSlot(f"{host} could not be looked up: too many other lookups wait for their answers") from None
            raise TimeoutError(f"no answer to the lookup of {host} within {seconds:g} s") from None
        finally:
            lookup.waiting -= 1
        if failure is not None:
            raise failure
        if not found:
            raise OSError(f"{host} has no address")
        return [Address(a.family, (a.sockaddr[0], port, *a.sockaddr[2:])) for a in found]

    def _join(self, host: str, family: int) -> _Lookup:
        key = (host, family)
        lookup = self._known.get(key)
        if lookup is not None:
            lookup.waiting += 1
            return lookup
        lookup = self._known[key] = _Lookup(host, family, self._loop.create_future())
        lookup.waiting = 1
        self._line.append(lookup)
        self._begin()
        return lookup

    def _begin(self) -> None:
        """Those first in line, as far as there are threads."""
        while self._line and self._free:
            lookup = self._line.popleft()
            if not lookup.waiting:
                del self._known[lookup.host, lookup.family]
                continue
            lookup.began = monotonic()
            self._free -= 1
            # A daemon: the process must be able to end while it waits.
            threading.Thread(target=self._ask, args=(lookup,), name=f"lookup {lookup.host}", daemon=True).start()

    def _ask(self, lookup: _Lookup) -> None:
        """In a thread of its own."""
        try:
            answer = _Answer(self._resolve(lookup.host, lookup.family), None)
        except Exception as error:
            answer = _Answer([], error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._answered, lookup, answer)

    def _answered(self, lookup: _Lookup, answer: _Answer) -> None:
        self._free += 1
        del self._known[lookup.host, lookup.family]
        lookup.answer.set_result(answer)
        self._begin()
