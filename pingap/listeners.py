"""The listening sockets: bound once by the supervisor, handed to every accept replica.

They outlive the processes that accept from them: while a replica is replaced,
connections wait in the kernel's queue. What TCP options a server asks for is set
on the listening socket, from which Linux copies it to each accepted connection.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pingap.config.model import Server
from pingap.config.parts import Listen
from pingap.config.problems import path_of

BACKLOG: Final = 4096


class BindFailed(Exception):
    """`reasons`: one line for each address that cannot be listened on."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))


class Listener(NamedTuple):
    """One listening socket."""

    key: int
    """Names it between the supervisor and the spawner; never used again."""
    server: str
    addr: str
    """`host:port` as it is bound: the port is never 0."""
    sock: socket.socket
    owner: tuple[str, int] | None
    """Role and replica that has it for itself (`reuse_port`); None when all accept replicas share it."""
    asked: Listen
    """The address as it is configured."""


class Inherited(NamedTuple):
    """A listening socket that was open before this process: of the instance before, or of a service manager."""

    asked: Listen
    """The address for which it was bound, as it was configured then."""
    server: str
    owner: tuple[str, int] | None
    sock: socket.socket


class Listeners:
    """All of them."""

    def __init__(self, servers: Mapping[str, Server], inherited: Sequence[Inherited] = (), *, is_beside: bool = False) -> None:
        """inherited: they are used where their address is still configured, and closed where it is not.

        is_beside: another instance serves meanwhile. What is bound takes connections only once accept listens: until then
        this instance may fail, and they would be lost with it.
        """
        self._is_beside = is_beside
        self._servers = dict(servers)
        self._inherited = list(inherited)
        self._open: dict[int, Listener] = {}
        self._chosen: dict[tuple[str, Listen], int] = {}
        self._newest = 0

    def bind(self, owners: list[tuple[str, int]]) -> None:
        """Binds what the replicas share, and what each of `owners` has for itself. Raises BindFailed with all that failed."""
        reasons: list[str] = []
        shared = {name: server for name, server in self._servers.items() if not server.reuse_port}
        for servers, owner in ((shared, None), *((self._own_servers(), owner) for owner in owners)):
            try:
                self._bind(servers, owner)
            except BindFailed as failed:
                reasons += [reason for reason in failed.reasons if reason not in reasons]
        if reasons:
            self.close(self.all())
            raise BindFailed(reasons)
        self._share_the_rest()

    def _share_the_rest(self) -> None:
        """What replicas had for themselves that are no more: connections may wait there, so that all take from it."""
        wanted = {addr: name for name, server in self._servers.items() for addr in server.addr}
        for one in self._inherited:
            if one.asked in wanted:
                self._keep(wanted[one.asked], one.asked, one.sock, None)
            else:
                one.sock.close()
        self._inherited.clear()

    def bind_own(self, owner: tuple[str, int]) -> list[Listener]:
        """Binds what a replica gets for itself, unless it has it from an earlier incarnation. Raises BindFailed."""
        return [] if self.own(owner) else self._bind(self._own_servers(), owner)

    def refusals(self) -> list[tuple[str, Listen, OSError]]:
        """(server, address, why) of what could not be bound now. Nothing is kept, and nobody is listened to meanwhile."""
        found = []
        for name, server in self._servers.items():
            for addr in server.addr:
                try:
                    socks = _listen(addr, server, dual=self._is_dual(addr), only_binds=True)
                except OSError as error:
                    found.append((name, addr, error))
                    continue
                for sock in socks:
                    sock.close()
        return found

    def _own_servers(self) -> dict[str, Server]:
        return {name: server for name, server in self._servers.items() if server.reuse_port}

    def add(self, server: str, sock: socket.socket, owner: tuple[str, int]) -> Listener:
        """Takes in a socket that is bound already."""
        host, port = sock.getsockname()[:2]
        return self._keep(server, Listen(host, port), sock, owner)

    def _keep(self, server: str, asked: Listen, sock: socket.socket, owner: tuple[str, int] | None) -> Listener:
        self._newest += 1
        listener = Listener(self._newest, server, str(Listen(*sock.getsockname()[:2])), sock, owner, asked)
        self._open[listener.key] = listener
        return listener

    def of(self, owner: tuple[str, int]) -> list[Listener]:
        """What a replica accepts from."""
        return [listener for listener in self._open.values() if listener.owner in (owner, None)]

    def own(self, owner: tuple[str, int]) -> list[Listener]:
        """What a replica has for itself."""
        return [listener for listener in self._open.values() if listener.owner == owner]

    def all(self) -> list[Listener]:
        return list(self._open.values())

    def urls(self) -> list[str]:
        """Where clients find the servers."""
        named = [(one.addr, self._servers[one.server]) for one in self._open.values() if one.server in self._servers]
        found = [f"{'https' if server.global_certificates else 'http'}://{addr}" for addr, server in named]
        return list(dict.fromkeys(found))

    def rows(self) -> list[dict[str, str]]:
        """Which server listens where, each address once: `server`, `addr` and `scheme`."""
        named = [(one.server, one.addr) for one in self._open.values() if one.server in self._servers]
        return [
            {"server": name, "addr": addr, "scheme": "https" if self._servers[name].global_certificates else "http"}
            for name, addr in dict.fromkeys(named)
        ]

    def close(self, listeners: list[Listener]) -> list[int]:
        """Closes them here; their keys, so that others close theirs."""
        for listener in listeners:
            listener.sock.close()
            self._open.pop(listener.key, None)
        return [listener.key for listener in listeners]

    def _bind(self, servers: Mapping[str, Server], owner: tuple[str, int] | None) -> list[Listener]:
        bound: list[Listener] = []
        reasons: list[str] = []
        for name, server in servers.items():
            for addr in server.addr:
                port = self._chosen.get((name, addr), addr.port)  # replicas share a port that the system chose
                try:
                    socks = self._inherited_for(addr, server, owner) or _listen(
                        Listen(addr.host, port), server, dual=self._is_dual(addr), only_binds=self._is_beside
                    )
                except OSError as error:
                    reasons.append(f"{path_of('servers', name, 'addr')}: cannot listen on {addr}: {(error.strerror or str(error)).lower()}")
                    continue
                self._chosen[name, addr] = socks[0].getsockname()[1]
                bound += [self._keep(name, addr, sock, owner) for sock in socks]
        if reasons:
            self.close(bound)
            raise BindFailed(reasons)
        return bound

    def _inherited_for(self, addr: Listen, server: Server, owner: tuple[str, int] | None) -> list[socket.socket]:
        # Where all shall share one, they share those that replicas had for themselves.
        found = [one for one in self._inherited if one.asked == addr and owner in (None, one.owner)]
        for one in found:
            self._inherited.remove(one)
            _set_options(one.sock, server)
            one.sock.listen(BACKLOG)
            one.sock.setblocking(False)
        return [one.sock for one in found]

    def _is_dual(self, addr: Listen) -> bool:
        """Does `[::]` take IPv4 as well? As people expect, unless another address wants that port for IPv4."""
        others = [other for server in self._servers.values() for other in server.addr if other.port == addr.port]
        return addr.host == "::" and all(":" in other.host for other in others)


def _listen(addr: Listen, server: Server, *, dual: bool, only_binds: bool = False) -> list[socket.socket]:
    """A socket for each address that the host has; of a name's several, those that this machine has."""
    found: list[socket.socket] = []
    failed: OSError | None = None
    hosts = dict.fromkeys(socket.getaddrinfo(addr.host, addr.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    for family, kind, number, _, where in hosts:
        try:
            sock = socket.socket(family, kind, number)
        except OSError as error:
            failed = error
            continue
        try:
            _prepare(sock, server, dual)
            sock.bind(where)
            if not only_binds:
                sock.listen(BACKLOG)
            sock.setblocking(False)
            found.append(sock)
        except OSError as error:
            sock.close()
            failed = error
            if error.errno != errno.EADDRNOTAVAIL:
                break
    if failed is not None and (not found or failed.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
        for sock in found:
            sock.close()
        raise failed
    return found


def _prepare(sock: socket.socket, server: Server, dual: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    if server.reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _set_options(sock, server)


def _set_options(sock: socket.socket, server: Server) -> None:
    """Those that may change while it is open."""
    if server.tcp_idle is not None or server.tcp_interval is not None or server.tcp_probe_count is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, server.tcp_idle),
        (socket.TCP_KEEPINTVL, server.tcp_interval),
        (socket.TCP_KEEPCNT, server.tcp_probe_count),
    ):
        if value is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, int(value))
    if server.tcp_user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(server.tcp_user_timeout * 1000))
    if server.tcp_fastopen:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, server.tcp_fastopen)
