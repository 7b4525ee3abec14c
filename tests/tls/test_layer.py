"""The TLS layer: handshake, records, ends of either half, and peers that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import weakref

import pytest

from pingap.stages import lane as lane_module
from pingap.stages import tls
from pingap.stages.lane import Lane
from pingap.stages.tls import HANDSHAKES, TlsTransport
from tests.tls.ends import Inner, Peer, Raw, contexts, turn

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
both_versions = pytest.mark.parametrize("newest", VERSIONS, ids=["1.2", "1.3"])


@both_versions
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_handshake_may_come_in_any_pieces(newest: ssl.TLSVersion, size: int) -> None:
    peer = Peer(newest=newest)
    await peer.shakes(size)
    peer.says(b"hello")
    assert peer.inner.all == b"hello"
    assert peer.layer.seconds > 0
    peer.layer.write(b"and back")
    assert peer.hears() == b"and back"


async def test_a_client_hello_may_be_cut_where_its_rest_looks_like_text() -> None:
    peer = Peer()
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    hello = peer.flight()
    at = hello.index(b"example")
    peer.deliver(hello[:at])
    await turn()
    peer.deliver(hello[at:])
    await turn()
    await peer.shakes()
    assert peer.inner.has_begun and not peer.failures


@both_versions
async def test_the_first_request_may_come_with_the_end_of_the_handshake(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest)
    for _ in range(3):
        peer.take()
        try:
            peer.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            if newest is ssl.TLSVersion.TLSv1_3 or peer.raw.out or not peer.inner.has_begun:
                peer.deliver(peer.flight())
                await turn()
    peer.tls.write(b"at once")
    peer.deliver(peer.flight())
    await turn()
    assert peer.inner.all == b"at once"


@both_versions
async def test_large_pieces_pass_both_ways_as_they_are(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest)
    await peer.shakes()
    data = random.Random(3).randbytes(700_001)
    peer.tls.write(data[:10])
    rest = memoryview(data)[10:]
    while rest:
        rest = rest[peer.tls.write(rest) :]
    peer.deliver(peer.flight(), 1000)
    assert peer.inner.all == data
    peer.layer.write(data)
    assert peer.hears() == data


async def test_records_that_came_together_are_handed_on_together() -> None:
    peer = Peer()
    await peer.shakes()
    peer.says(*[b"x" * 1000] * 20)
    assert len(peer.inner.heard) == 1 and len(peer.inner.all) == 20_000


async def test_a_reader_that_pauses_gets_nothing_until_it_resumes() -> None:
    peer = Peer()
    await peer.shakes()
    peer.layer.pause_reading()
    assert peer.raw.is_paused
    peer.says(b"later")
    await turn()
    assert peer.inner.heard == []
    peer.layer.resume_reading()
    await turn()
    assert peer.inner.all == b"later" and not peer.raw.is_paused


async def test_back_pressure_of_the_socket_reaches_the_protocol() -> None:
    peer = Peer()
    peer.layer.pause_writing()  # in the handshake there is nobody to tell
    await peer.shakes()
    peer.layer.pause_writing()
    peer.layer.resume_writing()
    assert peer.inner.choked == [True, False]


# -- ends -----------------------------------------------------------------------------


@both_versions
async def test_closing_says_so(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest)
    await peer.shakes()
    peer.layer.write(b"bye")
    peer.layer.close()
    assert peer.hears() == b"bye"
    assert peer.hears_end()
    assert peer.raw.is_closed and not peer.raw.is_aborted


async def test_closing_in_the_middle_of_a_client_s_words_sends_no_alert_but_close_notify() -> None:
    peer = Peer()
    await peer.shakes()
    peer.layer.pause_reading()
    peer.says(b"still talking" * 1000)
    peer.layer.close()
    assert peer.hears_end()
    assert peer.left_over == 0, "no alert comes behind it"


@both_versions
async def test_a_client_that_says_the_end_is_answered_in_kind(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest)
    await peer.shakes()
    peer.says_end()
    assert peer.inner.is_ended and peer.raw.is_closed
    assert peer.hears_end()


@both_versions
async def test_the_end_may_come_with_the_last_words(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest)
    await peer.shakes()
    peer.tls.write(b"last")
    peer.tls.write(b" words")
    peer.says_end()
    await turn()
    assert peer.inner.all == b"last words"
    assert peer.inner.is_ended and peer.raw.is_closed


@both_versions
async def test_a_client_may_end_its_half_and_be_written_to(newest: ssl.TLSVersion) -> None:
    peer = Peer(newest=newest, inner=Inner(stays=True))
    await peer.shakes()
    peer.says_end()
    assert peer.inner.is_ended and not peer.raw.is_closed
    assert peer.layer.eof_received() is True, "its TCP half ends too, and that changes nothing"
    peer.layer.write(b"more")
    peer.layer.close()
    peer.take()
    assert peer.raw.is_closed


@both_versions
@pytest.mark.parametrize("cut", [0, 20])
async def test_after_its_own_end_it_goes_on_reading(newest: ssl.TLSVersion, cut: int) -> None:
    peer = Peer(newest=newest, inner=Inner(stays=True))
    await peer.shakes()
    peer.tls.write(b"before")
    piece = peer.flight()
    peer.deliver(piece[:cut])  # half a record has come
    peer.layer.write_eof()
    assert peer.raw.is_ended and not peer.raw.is_closed
    peer.deliver(piece[cut:])
    peer.says(b" and after")
    assert peer.inner.all == b"before and after"
    peer.says_end()
    assert peer.inner.is_ended
    assert peer.hears_end()


async def test_what_a_paused_reader_has_not_read_is_not_lost_by_its_own_end() -> None:
    peer = Peer()
    await peer.shakes()
    peer.layer.pause_reading()
    peer.says(b"one ", b"two ")
    peer.layer.write_eof()
    await turn()
    assert peer.inner.heard == []
    peer.layer.resume_reading()
    peer.says(b"three")
    await turn()
    assert peer.inner.all == b"one two three"


async def test_an_end_without_a_word_is_an_end_for_a_server() -> None:
    peer = Peer()
    await peer.shakes()
    assert peer.layer.eof_received() is False
    assert peer.inner.is_ended and peer.raw.is_closed


async def test_an_end_without_a_word_is_an_error_for_a_client() -> None:
    server, client = contexts()
    raw, inner, failures = Raw(), Inner(), list[Exception | None]()
    layer = TlsTransport(client, lambda _: inner, failures.append, hostname="a.example")
    layer.connection_made(raw)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server.wrap_bio(into, out, True)
    for _ in range(3):
        into.write(bytes(raw.out))
        raw.out.clear()
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        if out.pending:
            layer.data_received(out.read())
    peer.write(b"half a b")
    layer.data_received(out.read())
    layer.eof_received()
    layer.connection_lost(None)
    assert inner.all == b"half a b" and not inner.is_ended
    assert [type(error) for error in inner.lost] == [ssl.SSLEOFError]
    assert raw.is_aborted and not failures


async def test_a_record_that_was_tampered_with_ends_it_at_once() -> None:
    peer = Peer()
    await peer.shakes()
    records = []
    for said in (b"good", b"evil", b"what follows"):
        peer.tls.write(said)
        records.append(bytearray(peer.flight()))
    records[1][-1] ^= 1
    peer.deliver(b"".join(records))
    await turn()
    assert peer.inner.all == b"good"
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        peer.hears()
    peer.layer.connection_lost(None)
    assert [type(error) for error in peer.inner.lost] == [ssl.SSLError]
    assert peer.raw.is_aborted


async def test_the_loss_of_the_connection_is_passed_on_once() -> None:
    peer = Peer()
    await peer.shakes()
    error = ConnectionResetError()
    peer.layer.connection_lost(error)
    assert peer.inner.lost == [error]
    peer.layer.write(b"into the void")
    assert not peer.failures


# -- handshakes that fail ---------------------------------------------------------------


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST"])
async def test_plain_http_is_told_to_use_tls(said: bytes) -> None:
    peer = Peer()
    peer.deliver(said)
    await turn()
    assert bytes(peer.raw.out).startswith(b"HTTP/1.1 400 ")
    assert peer.raw.is_closed and len(peer.failures) == 1 and not peer.inner.has_begun


@pytest.mark.parametrize(
    "said", [bytes(50), b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02" + bytes(44), b"\x15\x03\x01\x00\x02\x02\x28"]
)
async def test_garbage_fails(said: bytes) -> None:
    peer = Peer()
    peer.deliver(said)
    await turn()
    assert len(peer.failures) == 1 and isinstance(peer.failures[0], ssl.SSLError)
    assert peer.raw.is_closed and not peer.raw.out.startswith(b"HTTP")


async def test_a_client_that_leaves_in_its_handshake_fails_once() -> None:
    peer = Peer()
    peer.deliver(b"\x16\x03\x01")
    await turn()
    peer.layer.eof_received()
    peer.layer.connection_lost(None)
    assert peer.failures == [None]


async def test_a_connection_may_be_refused_after_its_handshake() -> None:
    peer = Peer(refuse=True)
    await peer.shakes()
    assert peer.raw.is_closed and peer.hears_end()


async def test_before_its_handshake_a_client_cannot_make_us_keep_much() -> None:
    peer = Peer()
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.deliver(peer.flight())
    for _ in range(100):
        if peer.raw.is_paused:
            break
        peer.deliver(b"\x17\x03\x03\x40\x00" + bytes(16 * 1024))
    assert peer.layer._incoming.pending <= tls.EARLY + 20_000
    await turn()
    assert not peer.raw.is_paused, "it goes on once the handshake has had its turn"


async def test_what_a_peer_makes_tls_say_waits_for_it_up_to_a_bound() -> None:
    peer = Peer()
    await peer.shakes()
    peer.raw.unread = tls.ANSWERS + 1
    peer.layer._outgoing.write(b"the answer to a key update")
    peer.says(b"x")
    peer.deliver(b"\x17\x03\x03")  # a part of a record: the reader runs dry
    assert peer.raw.is_aborted


# -- the lane -------------------------------------------------------------------------------


@pytest.mark.interpreted
async def test_handshakes_take_a_bounded_part_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(lane_module, "monotonic", lambda: now[0])
    lane = Lane(asyncio.get_running_loop(), HANDSHAKES)
    order: list[int] = []

    class Slow(TlsTransport):
        __slots__ = ("number",)
        number: int

        def shake(self) -> None:
            now[0] += 0.0015
            order.append(self.number)

    for number in range(6):
        one = Slow(contexts()[0], lambda _: None, lambda _: None, lane=lane)
        one.number = number
        lane.put(one)
    seen = []
    for _ in range(5):
        await turn(1)
        seen.append(len(order))
    assert order == [0, 1, 2, 3, 4, 5], "in the order in which they came"
    assert seen == [2, 4, 6, 6, 6], "two a turn, for each takes more than half of it"


@pytest.mark.interpreted
async def test_an_error_in_one_handshake_does_not_stop_those_behind_it() -> None:
    loop = asyncio.get_running_loop()
    lane = Lane(loop, HANDSHAKES)
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    done: list[int] = []

    class Faulty(TlsTransport):
        __slots__ = ("number",)
        number: int

        def shake(self) -> None:
            if self.number == 0:
                raise RuntimeError("ours")
            done.append(self.number)

    for number in range(3):
        one = Faulty(contexts()[0], lambda _: None, lambda _: None, lane=lane)
        one.number = number
        lane.put(one)
    await turn()
    assert done == [1, 2]
    assert [type(error) for error in told] == [RuntimeError]
    loop.set_exception_handler(None)


async def test_a_connection_that_is_lost_holds_nothing_of_what_spoke_on_it() -> None:
    """Else only the garbage collector could part them, which looks at old things seldom."""
    peer = Peer()
    await peer.shakes()
    inner = weakref.ref(peer.inner)
    peer.layer.connection_lost(None)
    del peer.inner
    assert inner() is None
