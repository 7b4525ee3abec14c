"""Opening a connection over TCP or to a UNIX socket: the name, its addresses, the deadline over all of it. And what waits on one
to be read."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import termios
from collections.abc import Callable, Iterable
from fcntl import ioctl
from time import monotonic
from typing import Final

from pingap.stages.lookups import Address, Lookups, literal

_NONE: Final = bytes(4)

FULL: Final = 0.005
"""Seconds until a UNIX socket whose queue is full is tried again; doubled each time, up to ten times as much."""

_REASONS: Final = {
    errno.ENOENT: "there is no such socket",
    errno.ENOTDIR: "there is no such socket: a part of its path is no directory",
    errno.EACCES: "permission denied: this user may not write to the socket, or not enter a directory on the way to it",
    errno.ECONNREFUSED: "nobody listens at the socket",
    errno.EPROTOTYPE: "it is a socket for datagrams",
}
"""What errors of a connect to a UNIX socket mean."""


Admit = Callable[[list[Address]], list[Address]]
"""From addresses to those that may be connected to, one at least. Raises OSError."""


async def open_socket(
    loop: asyncio.AbstractEventLoop,
    lookups: Lookups,
    host: str,
    port: int,
    *,
    ipv4_only: bool,
    seconds: float,
    options: Iterable[tuple[int, int, int]] = (),
    admit: Admit | None = None,
) -> socket.socket:
    """A connected, non-blocking socket, after so many seconds at the most, the lookup of a name included.

    A name's addresses are tried one after the other, so that a name of which one address is dead is not dead: each gets its
    share of the time that is left. host: may be the path of a UNIX socket. options: arguments for setsockopt, for TCP.
    admit: is asked which of the addresses that were found may be connected to. Raises OSError: TimeoutError, stages.lookups.NoSlot.
    """
    deadline = monotonic() + seconds
    addresses = await lookups.find(host, port, ipv4_only, seconds)
    if admit is not None:
        addresses = admit(addresses)
    last: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            async with asyncio.timeout(max(0.0, deadline - monotonic()) / (len(addresses) - number)):
                if family == socket.AF_UNIX:
                    await _connect_here(sock, address)
                else:
                    for option in options:
                        sock.setsockopt(*option)
                    await connect(loop, sock, address)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            last = error
        else:
            return sock
    assert last is not None
    raise last


async def connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: object) -> None:
    """loop.sock_connect for an address that needs no lookup: uvloop's has libuv look up every one."""
    try:
        sock.connect(address)  # type: ignore[arg-type]
        return
    except BlockingIOError:
        pass
    done = loop.create_future()
    descriptor = sock.fileno()
    loop.add_writer(descriptor, _is_writable, done)
    try:
        await done
    finally:
        loop.remove_writer(descriptor)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def _connect_here(sock: socket.socket, path: str) -> None:
    """To a UNIX socket. That its queue is full is an error at once, and nobody tells when it is so no more: so it is asked again."""
    pause = FULL
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 10 * FULL)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise
            raise OSError(error.errno, reason) from error


def is_here(host: str) -> bool:
    """Whether an IP address is one of this host's own, as far as its routes tell. Nothing is sent: a socket for datagrams that is
    connected has the address as its own that it would send from, and to itself a host sends from where it sends to."""
    address = literal(host, 9)
    if address is None or address.family == socket.AF_UNIX:
        return False
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(address.sockaddr)
        except OSError:
            return False
        own = Address(address.family, sock.getsockname()).host
    return own == address.host


def _is_writable(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def has_unread(sock: socket.socket) -> bool:
    """Whether bytes wait on a socket. A third of the price of peeking at the first, which would see an end as well."""
    try:
        return ioctl(sock.fileno(), termios.FIONREAD, _NONE) != _NONE
    except (OSError, ValueError):  # closed already
        return True
