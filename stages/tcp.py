"""Opening a TCP connection: the name, its addresses, the deadline over all of it. And what waits on one to be read."""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from collections.abc import Iterable
from fcntl import ioctl
from time import monotonic
from typing import Final

from pingap.stages.lookups import Lookups

_NONE: Final = bytes(4)


async def open_socket(
    loop: asyncio.AbstractEventLoop,
    lookups: Lookups,
    host: str,
    port: int,
    *,
    ipv4_only: bool,
    seconds: float,
    options: Iterable[tuple[int, int, int]] = (),
) -> socket.socket:
    """A connected, non-blocking socket, after so many seconds at the most, the lookup of a name included.

    A name's addresses are tried one after the other, so that a name of which one address is dead is not dead: each gets its
    share of the time that is left. options: arguments for setsockopt. Raises OSError: TimeoutError, stages.lookups.NoSlot.
    """
    deadline = monotonic() + seconds
    addresses = await lookups.find(host, port, ipv4_only, seconds)
    last: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            for option in options:
                sock.setsockopt(*option)
            async with asyncio.timeout(max(0.0, deadline - monotonic()) / (len(addresses) - number)):
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


def _is_writable(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def has_unread(sock: socket.socket) -> bool:
    """Whether bytes wait on a socket. A third of the price of peeking at the first, which would see an end as well."""
    try:
        return ioctl(sock.fileno(), termios.FIONREAD, _NONE) != _NONE
    except (OSError, ValueError):  # closed already
        return True
