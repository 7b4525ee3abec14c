"""Small writes straight to the socket: in order, and never to a descriptor that is no longer ours."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from pingap.stages.http1.direct import DirectWriter
from pingap.stages.tcp import has_unread


class Queue(asyncio.Transport):
    """A transport that only remembers what it is given."""

    def __init__(self, sock: socket.socket | None, tls: bool = False) -> None:
        super().__init__()
        self._info = {"socket": sock, "sslcontext": object() if tls else None}
        self.queued = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._info.get(name, default)

    def get_write_buffer_size(self) -> int:
        return len(self.queued)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.queued += bytes(data)

    def writelines(self, parts: Iterable[Any]) -> None:
        self.queued += b"".join(parts)


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def read(sock: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            more = sock.recv(1 << 20)
        except BlockingIOError:
            return data
        if not more:
            return data
        data += more


def test_a_small_write_is_sent_at_once(pair: Any) -> None:
    ours, theirs = pair
    transport = Queue(ours)
    writer = DirectWriter(transport)
    writer.write(b"hello")
    writer.write(memoryview(b", you"))
    assert read(theirs) == b"hello, you"
    assert transport.queued == b""


def test_what_the_socket_does_not_take_goes_to_the_transport_and_so_does_all_that_follows(pair: Any) -> None:
    ours, theirs = pair
    transport = Queue(ours)
    writer = DirectWriter(transport)
    data = bytes(range(256)) * 20_000
    writer.write(data)
    left = transport.queued
    assert 0 < len(left) < len(data)
    got = read(theirs)
    assert got + left == data
    writer.write(b"after")  # there is room again, but the transport still holds what comes before
    assert read(theirs) == b""
    assert transport.queued == left + b"after"
    transport.queued = b""
    writer.write(b"direct again")
    assert read(theirs) == b"direct again"


def test_a_full_socket_takes_nothing_and_loses_nothing(pair: Any) -> None:
    ours, _ = pair
    transport = Queue(ours)
    writer = DirectWriter(transport)
    writer.write(b"x" * 5_000_000)
    transport.queued = b""  # as if the transport had got rid of it
    while True:
        try:
            ours.send(b"x" * 65536)
        except BlockingIOError:
            break
    writer.write(b"waits")
    assert transport.queued == b"waits"


def test_long_pieces_are_the_transports_and_nothing_overtakes_them(pair: Any) -> None:
    ours, theirs = pair
    transport = Queue(ours)
    writer = DirectWriter(transport)
    writer.writelines((b"a", b"b"))
    writer.write(b"c")
    assert (transport.queued, read(theirs)) == (b"abc", b"")


def test_who_takes_a_connection_over_does_not_overtake_what_still_waits(pair: Any) -> None:
    ours, theirs = pair
    transport = Queue(ours)
    DirectWriter(transport).write(b"x" * 5_000_000)
    left = transport.queued
    read(theirs)  # there is room again
    DirectWriter(transport).write(b"HTTP/1.1 101")
    assert read(theirs) == b""
    assert transport.queued == left + b"HTTP/1.1 101"


async def test_what_a_peer_said_before_it_stopped_taking_is_read_before_the_connection_is_given_up() -> None:
    """A backend that answers 413 and closes, while the body is still on its way: the answer counts, not the failed write."""
    loop = asyncio.get_running_loop()
    heard: list[bytes] = []
    lost = loop.create_future()

    class Ours(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.writer = DirectWriter(transport)

        def data_received(self, data: bytes) -> None:
            heard.append(data)

        def connection_lost(self, error: Exception | None) -> None:
            self.writer.end()
            lost.set_result(None)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, protocol = await loop.create_connection(Ours, *listener.getsockname())
        peer, _ = listener.accept()
    protocol.writer.write(b"the first part of a body")
    while not select.select([peer], [], [], 0)[0]:
        await asyncio.sleep(0)
    peer.sendall(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
    peer.close()  # with unread bytes: the kernel resets
    for _ in range(100):  # without a turn of the loop: the answer is in the socket, and writing fails
        protocol.writer.write(b"more of it")
    await asyncio.wait_for(lost, 5)
    assert b"".join(heard) == b"HTTP/1.1 413 Content Too Large\r\n\r\n"


def test_after_the_end_the_descriptor_is_not_touched(pair: Any) -> None:
    ours, theirs = pair
    transport = Queue(ours)
    writer = DirectWriter(transport)
    writer.end()
    writer.write(b"not for this socket")
    assert read(theirs) == b""


@pytest.mark.parametrize("tls", [True, False])
def test_without_a_plain_socket_everything_is_the_transports(pair: Any, tls: bool) -> None:
    transport = Queue(pair[0] if tls else None, tls)
    DirectWriter(transport).write(b"secret")
    assert transport.queued == b"secret"
    assert read(pair[1]) == b""


def test_what_waits_on_a_socket_is_seen_without_being_read() -> None:
    ours, theirs = socket.socketpair()
    try:
        assert not has_unread(ours)
        theirs.send(b"x")
        assert has_unread(ours)
        assert ours.recv(2) == b"x"
        theirs.close()
        assert not has_unread(ours), "an end is no byte"
    finally:
        theirs.close()
        ours.close()
    assert has_unread(ours), "of one that is closed nothing good can be said"
