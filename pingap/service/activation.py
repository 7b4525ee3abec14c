"""Listening sockets that a service manager had before us (sd_listen_fds(3)): which server each is for.

They are descriptors 3 and on, counted in `LISTEN_FDS`, named in `LISTEN_FDNAMES`, and meant for the process `LISTEN_PID`. The
manager keeps its own copies: connections wait in them while pingap restarts, and it is no use to close them.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from pingap.config.model import Server
from pingap.config.parts import Listen
from pingap.config.problems import path_of
from pingap.listeners import BindFailed, Inherited

FIRST: Final = 3
NAMES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Given:
    """One of them."""

    name: str
    """`FileDescriptorName=` of the socket unit, or the unit's own name."""
    sock: socket.socket

    @property
    def address(self) -> Listen:
        return Listen(*self.sock.getsockname()[:2])

    def __str__(self) -> str:
        is_inet = self.sock.family in (socket.AF_INET, socket.AF_INET6)
        return f"{self.name!r} ({str(self.address) if is_inet else repr(self.sock.getsockname())})"


class Activation:
    """The sockets that this process was given; most often none."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        """Takes NAMES out of env and keeps the descriptors from children. Raises BindFailed for one that is no socket."""
        count, whose, names = (env.pop(name, "") for name in NAMES)
        self._given: list[Given] = []
        if not count.isdigit() or whose != str(os.getpid()):
            return
        named = names.split(":") if names else []
        reasons = []
        for index in range(int(count)):
            name = named[index] if index < len(named) and named[index] else "unknown"
            try:
                os.set_inheritable(FIRST + index, False)
                self._given.append(Given(name, socket.socket(fileno=FIRST + index)))
            except OSError as error:
                reasons.append(
                    f"what the service manager gave as descriptor {FIRST + index} ({name}) is no socket: {error.strerror or error}"
                )
        if reasons:
            self.close()
            raise BindFailed(reasons)

    def close(self) -> None:
        for given in self._given:
            given.sock.close()
        self._given.clear()

    def inherited(self, servers: Mapping[str, Server]) -> list[Inherited]:
        """Copies of the sockets, each for an address of a server: the same address, or else one of the server with its name.

        Raises BindFailed, with each that is for none: what a manager listens on and nobody serves is a site that hangs.
        """
        free = [(name, addr) for name, server in servers.items() for addr in server.addr]
        found: dict[int, tuple[str, Listen]] = {}
        for find in (_by_address, _by_name):
            for index, given in enumerate(self._given):
                if index not in found and not _unfit(given) and (match := find(given, free)) is not None:
                    found[index] = match
                    free.remove(match)
        lost = [(given, _unfit(given)) for index, given in enumerate(self._given) if index not in found]
        if lost:
            raise BindFailed([_explained(given, why, servers) for given, why in lost])
        return [Inherited(addr, name, None, self._given[index].sock.dup()) for index, (name, addr) in sorted(found.items())]

    def hand_on(self, env: MutableMapping[str, str]) -> None:
        """Just before an exec: what runs then is given the same."""
        if not self._given:
            return
        beyond = FIRST + len(self._given)
        copies = [fcntl.fcntl(given.sock.fileno(), fcntl.F_DUPFD_CLOEXEC, beyond) for given in self._given]
        for index, copy in enumerate(copies):
            os.dup2(copy, FIRST + index)
        names = ":".join(given.name for given in self._given)
        env.update({"LISTEN_FDS": str(len(self._given)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names})


def shared(servers: Mapping[str, Server], inherited: list[Inherited]) -> tuple[dict[str, Server], list[str]]:
    """The servers, those with a given socket without `reuse_port`: there is one socket, not one a replica; and notes that say so."""
    own = [name for name in dict.fromkeys(one.server for one in inherited) if servers[name].reuse_port]
    notes = [f"{path_of('servers', name, 'reuse_port')}: without effect, for the service manager has bound its socket" for name in own]
    return {**servers, **{name: replace(servers[name], reuse_port=False) for name in own}}, notes


def _unfit(given: Given) -> str:
    sock = given.sock
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return "it is no TCP socket (ListenStream= with a port)"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it does not listen (Accept=no is needed)"
    return ""


def _by_address(given: Given, free: list[tuple[str, Listen]]) -> tuple[str, Listen] | None:
    address = given.address
    is_dual = given.sock.family == socket.AF_INET6 and not given.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    wanted = [address, Listen("0.0.0.0", address.port)] if address.host == "::" and is_dual else [address]
    for one in wanted:
        for name, addr in free:
            if addr == one or (addr.port == one.port and one.host in _hosts(addr)):
                return name, addr
    return None


def _hosts(addr: Listen) -> Iterator[str]:
    """The addresses of a host name, as they are bound."""
    with suppress(OSError):
        for *_, where in socket.getaddrinfo(addr.host, addr.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            yield str(where[0])


def _by_name(given: Given, free: list[tuple[str, Listen]]) -> tuple[str, Listen] | None:
    return next(((name, addr) for name, addr in free if name == given.name), None)


def _explained(given: Given, why: str, servers: Mapping[str, Server]) -> str:
    there = ", ".join(f"{path_of('servers', name, 'addr')} {addr}" for name, server in servers.items() for addr in server.addr)
    why = why or f"no server listens there; there are {there}"
    return (
        f"the service manager's socket {given} is for no server: {why}"
        "\n    give it the address of a server (ListenStream=), or a server's name (FileDescriptorName=)"
    )
