"""Windows (RFC 9113 section 5.2): both ways, tied to what the stages can take, and clients that never open theirs."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from pingap.stages.http2.engine import CANCEL, FLOW_CONTROL_ERROR, NO_ERROR
from tests.conformance.backend import BIG, PORTION
from tests.conformance.conftest import Server
from tests.conformance.peer import Frame, Peer
from tests.conformance.steps import answers, breaks, fields, get, holds_back, post, request, sends, sends_in_all, settings, window
from tests.e2e.harness import Pingap
from tests.e2e.origins import Exchange, Origin
from tests.http2.wire import DATA, ENGINES, GOAWAY, HEADERS, RST, WINDOW, data, u32
from tests.kit.waiting import until

pytestmark = pytest.mark.alone

NO_WINDOW = b"\0\4" + u32(0)
WIDE = b"\0\4" + u32(2**31 - 1)
MIB = 1024 * 1024


def download(peer: Peer, stream: int, path: bytes = b"/big") -> None:
    """Takes an answer as ordinary clients do: what was read is given back to both windows."""
    peer.send(get(stream, path=path))
    answer = None
    while answer is None or not answer.ended:
        found = peer.until(lambda seen: seen.kind in (DATA, HEADERS, RST), "more of the answer")
        assert found.kind != RST, peer.history()
        answer = peer.answers[stream]
        if found.kind == DATA and found.body:
            peer.send(window(0, len(found.body)) + window(stream, len(found.body)))


def upload(peer: Peer, stream: int, body: bytes) -> None:
    """Sends a body as fast as the server's windows allow."""
    own, connection, sent = peer.remote.get(4, 65535), 65535 + connection_window(peer), 0
    while sent < len(body):
        size = min(own, connection, 16384, len(body) - sent)
        if size:
            peer.send(data(stream, body[sent : sent + size], sent + size == len(body)))
            sent, own, connection = sent + size, own - size, connection - size
            continue
        found = peer.until(lambda seen: seen.kind == WINDOW, "room for more of the body")
        increment = int.from_bytes(found.body, "big")
        if found.stream:
            own += increment
        else:
            connection += increment


def connection_window(peer: Peer) -> int:
    """What the server has given to the connection so far, beyond the initial 65535."""
    return sum(int.from_bytes(seen.body, "big") for seen in peer.seen if seen.kind == WINDOW and not seen.stream)


def is_whole(body: bytearray) -> bool:
    return len(body) == BIG and body == PORTION * (BIG // len(PORTION))


def test_a_large_answer_comes_whole_in_frames_that_are_not_too_large(server: Server) -> None:
    with server.peer() as peer:
        download(peer, 1)
        assert is_whole(peer.answers[1].body)
        assert max(len(seen.body) for seen in peer.seen) <= 16384


def test_larger_frames_come_only_to_clients_that_take_them(server: Server) -> None:
    with server.peer(b"\0\5" + u32(65536) + WIDE) as peer:
        peer.send(window(0, 2**31 - 1 - 65535) + get(1, path=b"/big"))
        assert is_whole(peer.answer(1, 20).body)
        assert max(len(seen.body) for seen in peer.seen) <= 65536


def test_a_window_of_1_lets_an_answer_through_byte_by_byte(server: Server) -> None:
    with server.peer(b"\0\4" + u32(1)) as peer:
        peer.send(get(1))
        answer = None
        while answer is None or not answer.ended:
            found = peer.until(lambda seen: seen.kind in (DATA, HEADERS), "the next byte")
            answer = peer.answers[1]
            if found.kind == DATA:
                assert len(found.body) == 1 or found.ended
                peer.send(window(1, 1))
        assert answer.body == b"hello\n"


def test_a_stream_without_a_window_holds_up_no_other(server: Server) -> None:
    with server.peer(NO_WINDOW) as peer:
        peer.send(get(1, path=b"/big") + get(3) + window(3, 100))
        answers(3, body=b"hello\n")(peer)
        holds_back(1)(peer)
        peer.send(window(1, 5))
        sends(1, 5)(peer)


def test_a_connection_without_a_window_goes_on_when_it_opens(server: Server) -> None:
    """Stream 1 uses up the connection's window; stream 3 waits for that, though its own is open."""
    with server.peer(WIDE) as peer:
        peer.send(get(1, path=b"/big"))
        sends_in_all(1, 65535)(peer)
        peer.send(get(3))
        holds_back(3)(peer)
        peer.send(window(0, BIG))
        answers(3, body=b"hello\n")(peer)
        assert is_whole(peer.answer(1, 20).body)


def have_begun(peer: Peer, streams: Iterable[int], _: Frame) -> bool:
    return all(stream in peer.answers for stream in streams)


def test_a_larger_initial_window_lets_waiting_answers_go_on(server: Server) -> None:
    with server.peer(NO_WINDOW) as peer:
        streams = range(1, 41, 2)
        peer.send(b"".join(get(stream) for stream in streams))
        peer.until(lambda _: all(stream in peer.answers for stream in streams), "all answers begin")
        peer.ping()
        peer.send(settings((4, 6)))
        for stream in streams:
            answers(stream, body=b"hello\n")(peer)


def test_an_upload_keeps_to_windows_that_open_again(server: Server) -> None:
    body = hashlib.sha256(b"seed").digest() * (4 * MIB // 32)
    with server.peer() as peer:
        peer.ping()  # the window of the connection has come
        peer.send(fields(1, request(b"POST", b"/size", (b"content-length", b"%d" % len(body)))))
        upload(peer, 1, body)
        assert peer.answer(1).body == b"%d %s" % (len(body), hashlib.sha256(body).hexdigest().encode())


@pytest.fixture
def stuck(server: Server) -> Iterator[threading.Event]:
    """/stuck reads nothing of a body until it is told to."""
    released = threading.Event()

    def handler(exchange: Exchange) -> None:
        released.wait(20)
        exchange.reply(b"%d" % len(exchange.read_body()))

    server.origin.on["/stuck"] = handler
    yield released
    released.set()


def test_an_origin_that_takes_nothing_stops_the_client(server: Server, stuck: threading.Event) -> None:
    """What the windows let through is bounded, other streams of the connection are served, and then it all goes on."""
    body = b"u" * (24 * MIB)
    with server.peer() as peer:
        peer.ping()
        peer.send(fields(1, request(b"POST", b"/stuck", (b"content-length", b"%d" % len(body)))))
        own, sent = peer.remote[4], 0
        while True:
            while own:
                size = min(own, 16384)
                peer.send(data(1, body[:size]))
                own, sent = own - size, sent + size
            before = len(peer.seen)
            peer.send(get(3 + 2 * (sent // 16384)))
            answers(3 + 2 * (sent // 16384), body=b"hello\n")(peer)
            own = _opened(peer.seen[before:])
            if not own and server.origin.seen("/stuck"):
                break
        # The origin's kernel takes some; of the rest every stage holds a window at most.
        assert sent < 16 * MIB, sent
        stuck.set()
        _rest(peer, len(body) - sent)
        assert peer.answer(1, 20).body == b"%d" % len(body)


def _opened(seen: list[Frame]) -> int:
    return sum(int.from_bytes(one.body, "big") for one in seen if one.kind == WINDOW and one.stream == 1)


def _rest(peer: Peer, left: int) -> None:
    """Goes on from windows that are used up."""
    while left:
        found = peer.until(lambda seen: seen.kind == WINDOW and seen.stream == 1, "the window opens again")
        room = min(left, int.from_bytes(found.body, "big"))
        left -= room
        while room:
            size = min(room, 16384)
            room -= size
            peer.send(data(1, b"u" * size, not left and not room))


def test_more_than_the_window_is_an_error(server: Server) -> None:
    with server.peer() as peer:
        room = peer.remote.get(4, 65535)
        peer.send(post(1) + b"".join(data(1, b"x" * 16384) for _ in range(room // 16384 + 2)))
        breaks(1, FLOW_CONTROL_ERROR)(peer)


# -- clients that open no window ----------------------------------------------------


def test_a_client_that_opens_no_window_is_ended_and_costs_little(server: Server) -> None:
    """20 answers of 8 MiB that nobody takes: each is reset after downstream_write_timeout, their backends are let go."""
    assert server.instance is not None
    before, open_before = server.instance.memory(), server.origin.open
    with Peer(server.impatient, settings=NO_WINDOW) as peer:
        streams = range(1, 41, 2)
        peer.send(b"".join(get(stream, path=b"/big") for stream in streams))
        peer.until(lambda _: all(stream in peer.answers for stream in streams), "all answers begin")
        assert server.instance.memory() - before < len(streams) * 3 * MIB // 2  # the window and a read in accept, some in upstream
        peer.until(lambda _: all(peer.answers[stream].code is not None for stream in streams), "all streams are reset")
        assert {peer.answers[stream].code for stream in streams} == {CANCEL}
        assert not any(peer.answers[stream].body for stream in streams)
        peer.send(settings((4, 100)) + get(101))
        answers(101, body=b"hello\n")(peer)
    until(lambda: server.origin.open <= open_before + 2, 5, "the backends' connections are closed")


def test_what_clients_left_behind_is_let_go(server: Server) -> None:
    """Connections that end with answers waiting for a window leave no memory behind, round after round."""
    assert server.instance is not None
    sizes = []
    for _ in range(6):
        with server.peer(NO_WINDOW) as peer:
            streams = range(1, 41, 2)
            peer.send(b"".join(get(stream, path=b"/big") for stream in streams))
            peer.until(partial(have_begun, peer, streams), "all answers begin")
            peer.ping()
        sizes.append(server.instance.memory())
    assert min(sizes[3:]) - max(sizes[:2]) < 24 * MIB, sizes


@dataclass(frozen=True)
class Silent:
    """Three clients that began at the same time and do nothing more, so that what ends each of them is waited for once."""

    port: int
    idle: Peer
    stopped: Peer
    """Half a body."""
    deaf: Peer
    """Windows that are open, and a socket from which nothing is read."""


@pytest.fixture(scope="module", params=ENGINES)
def silent(request: pytest.FixtureRequest, instance: Pingap, ports: dict[str, int], conformance_origin: Origin) -> Iterator[Silent]:
    port = ports[f"{request.param}-impatient"]
    with Peer(port) as idle, Peer(port) as stopped, Peer(port, settings=WIDE, receive_buffer=4096) as deaf:
        stopped.send(post(1, (b"content-length", b"100")) + data(1, b"some"))
        count = len(conformance_origin.seen("/big"))
        deaf.send(window(0, 2**31 - 1 - 65535) + get(1, path=b"/big") + get(3, path=b"/big"))
        conformance_origin.wait("/big", count + 2)
        yield Silent(port, idle, stopped, deaf)


def test_a_client_that_takes_a_little_now_and_then_is_not_ended(silent: Silent) -> None:
    """downstream_write_timeout is about silence."""
    with Peer(silent.port, settings=NO_WINDOW) as peer:
        peer.send(get(1, path=b"/big"))
        peer.until(lambda seen: seen.kind == HEADERS, "the answer begins")
        for _ in range(3):
            threading.Event().wait(0.5)
            peer.send(window(1, 10))
            peer.until(lambda seen: seen.kind == DATA and len(seen.body) == 10, "10 bytes")
        assert peer.answers[1].code is None


def test_an_idle_connection_is_told_before_it_is_closed(silent: Silent) -> None:
    """header_timeout before the first request, keepalive_timeout after it."""
    found = silent.idle.until(lambda seen: seen.kind == GOAWAY, "GOAWAY")
    assert (found.code, found.last_stream) == (NO_ERROR, 0)
    silent.idle.wait_closed()


def test_a_body_that_stops_is_ended(silent: Silent) -> None:
    """downstream_read_timeout, for a stream and not for its connection."""
    peer = silent.stopped
    assert peer.answer(1).status == 408
    peer.send(get(3))
    answers(3)(peer)


def test_a_client_that_reads_nothing_is_ended(silent: Silent) -> None:
    """The connection is reset, or its kernel would go on to hold what was written."""
    until(lambda: _is_reset(silent.deaf), 8, "the connection is reset")


def _is_reset(peer: Peer) -> bool:
    """Without reading: the kernel tells of a reset in the state of the socket."""
    state: int = struct.unpack("B", peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]
    return state == 7  # TCP_CLOSE
