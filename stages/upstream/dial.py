"""Opening a connection to a backend: time-outs, TLS, socket options. Names and addresses are for stages/tcp.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from pingap.config.model import Upstream
from pingap.stages.lookups import Address, Lookups
from pingap.stages.tcp import is_here, open_socket
from pingap.stages.tls import TlsTransport
from pingap.stages.upstream.backend import BackendState, Doorkeeper
from pingap.stages.upstream.http1 import BackendConnection
from pingap.stages.upstream.http2 import SharedConnection
from pingap.stages.upstream.keeper import Keeper
from pingap.stages.upstream.objections import faces
from pingap.stages.upstream.secure import Handshake, context_of, sessions_of
from pingap.stages.upstream.waiting import LONGEST_WAIT

Connection = BackendConnection | SharedConnection
P = TypeVar("P", bound=asyncio.Protocol)

DEFAULT_CONNECT_TIMEOUT: Final = 10.0
NAMED: Final = 4
"""Addresses of a destination that the log names."""
TCP_FASTOPEN_CONNECT: Final = 30
"""Linux's option; the socket module does not name it."""


async def dial(
    loop: asyncio.AbstractEventLoop, lookups: Lookups, keeper: Keeper, backend: BackendState, name: str, only_http1: bool
) -> Connection:
    """A fresh connection, in use by nobody yet. Raises OSError; TimeoutError when a time-out has passed; NoSlot.

    keeper: of the connection, once it stands. name: whom the backend has to prove to be; "" without TLS.
    only_http1: HTTP/2 is not offered, whatever `alpn` says.
    """
    settings = backend.group.settings
    connection: Connection
    total = settings.total_connection_timeout or LONGEST_WAIT
    began = monotonic()
    door = backend.group.doorkeeper
    sock = await open_socket(
        loop,
        lookups,
        backend.host,
        backend.port,
        ipv4_only=settings.ipv4_only,
        seconds=min(total, settings.connection_timeout or DEFAULT_CONNECT_TIMEOUT),
        options=socket_options(settings),
        admit=None if door is None else partial(_admitted, door),
    )
    async with asyncio.timeout(max(0.0, total - (monotonic() - began))):
        seconds: tuple[float, ...] = (monotonic() - began,)
        if name:
            connection, tls_seconds = await _secure(loop, keeper, backend, name, sock, only_http1)
            seconds = (*seconds, tls_seconds)
        elif backend.group.may_share:
            connection = await _attach(loop, lambda: SharedConnection(keeper, backend), sock, SharedConnection.close)
        else:
            connection = await _attach(loop, lambda: BackendConnection(keeper, backend, sock), sock, BackendConnection.close)
        connection.connect_seconds = seconds
        if isinstance(connection, SharedConnection):
            await _await_settings(connection, settings)
    if connection.is_closed or connection.transport.is_closing():
        raise ConnectionResetError("closed before it was asked anything")
    return connection


class DestinationRefused(OSError):
    """The client that has chosen it may not go there."""


def _admitted(door: Doorkeeper, addresses: list[Address]) -> list[Address]:
    """Those of a destination's addresses that may be connected to. Raises DestinationRefused when there is none."""
    objections = [door.objection(one.host, one.sockaddr[1], any(is_here(str(face)) for face in faces(one.host))) for one in addresses]
    if all(objections):
        raise DestinationRefused("; ".join(objections[:NAMED]))
    return [address for address, objection in zip(addresses, objections, strict=True) if not objection]


async def _await_settings(connection: SharedConnection, settings: Upstream) -> None:
    """Until the backend has said what it takes, with which it also shows that it speaks HTTP/2."""
    try:
        async with asyncio.timeout(settings.connection_timeout or DEFAULT_CONNECT_TIMEOUT):
            await connection.greeted
    except TimeoutError as error:
        connection.close()
        raise TimeoutError("no HTTP/2 settings in time") from error
    except BaseException:
        connection.close()
        raise


async def _attach(loop: asyncio.AbstractEventLoop, factory: Callable[[], P], sock: socket.socket, unwanted: Callable[[P], None]) -> P:
    """Gives the socket a transport and a protocol. unwanted: closes them when this is called off."""

    async def make() -> P:
        try:
            return (await loop.create_connection(factory, sock=sock))[1]
        except BaseException:
            sock.close()
            raise

    def made(making: asyncio.Task[P]) -> None:
        if not making.cancelled() and making.exception() is None:
            unwanted(making.result())

    # Not to be interrupted: loops differ on whose the descriptor is when making a transport of it is called off.
    making = loop.create_task(make())
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(made)
        raise


async def _secure(
    loop: asyncio.AbstractEventLoop,
    keeper: Keeper,
    backend: BackendState,
    name: str,
    sock: socket.socket,
    only_http1: bool,
) -> tuple[Connection, float]:
    """The same under TLS, and the seconds that the handshake took."""
    group = backend.group
    context, sessions = context_of(group, only_http1), sessions_of(backend, only_http1)

    def choose(agreed: str) -> asyncio.Protocol:
        if agreed == "h2":
            return SharedConnection(keeper, backend, name)
        if group.settings.alpn == "h2":
            raise ConnectionError(f"the backend does not agree to HTTP/2 by ALPN, but to {agreed or 'nothing'}")
        return BackendConnection(keeper, backend, sock, name)

    handshake = Handshake(context, name, sessions.get(name), choose)
    transport = handshake.transport
    await _attach(loop, lambda: transport, sock, TlsTransport.abort)
    try:
        async with asyncio.timeout(group.settings.connection_timeout or DEFAULT_CONNECT_TIMEOUT):
            connection: Any = await handshake.done
    except TimeoutError as error:
        transport.abort()
        raise TimeoutError(f"TLS handshake as {name}: no end in time") from error
    except BaseException:
        transport.abort()
        raise
    sessions.made(name, transport)
    return connection, transport.seconds


def socket_options(settings: Upstream) -> list[tuple[int, int, int]]:
    """setsockopt arguments for every connection of an upstream: its tcp_* keys, and no delay for small writes."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if settings.tcp_idle is not None or settings.tcp_interval is not None or settings.tcp_probe_count is not None:
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
    if settings.tcp_idle is not None:
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(settings.tcp_idle))))
    if settings.tcp_interval is not None:
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(settings.tcp_interval))))
    if settings.tcp_probe_count is not None:
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPCNT, settings.tcp_probe_count))
    if settings.tcp_user_timeout is not None:
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.tcp_user_timeout * 1000)))
    if settings.tcp_recv_buf is not None:
        options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, settings.tcp_recv_buf))
    if settings.tcp_fast_open:
        options.append((socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1))
    return options
