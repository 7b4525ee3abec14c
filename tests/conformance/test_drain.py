"""A graceful end (RFC 9113 section 6.8): two GOAWAYs, streams in flight go on, idle connections close."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pingap.stages.http2.engine import LAST_STREAM, NO_ERROR, REFUSED_STREAM
from pingap.stages.http2.engines import NAMES as ENGINE_NAMES
from pingap.stages.http2.engines import is_installed
from tests.conformance.conftest import free_ports, listeners
from tests.conformance.peer import Peer
from tests.conformance.steps import fields, get, request
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.http2.wire import ACK, GOAWAY, PING, data, frame

WAYS = [pytest.param(("split", signal.SIGTERM), id="TERM, split"), pytest.param(("colocated", signal.SIGQUIT), id="QUIT, colocated")]
NAMES = [name for name in ENGINE_NAMES if is_installed(name)]


@pytest.fixture(params=WAYS)
def own(request: pytest.FixtureRequest, conformance_origin: Origin) -> Iterator[tuple[Pingap, dict[str, int], signal.Signals]]:
    placement, number = request.param
    ports = free_ports()
    with Pingap(site([conformance_origin.port], more=listeners(ports)), placement) as instance:
        yield instance, ports, number


def begin(peer: Peer) -> None:
    """Stream 1 is in flight: its answer has begun, and its body is not all sent."""
    peer.send(fields(1, request(b"POST", b"/drip", (b"content-length", b"4"))) + data(1, b"a"))


def first_goaway(peer: Peer) -> None:
    found = peer.until(lambda seen: seen.kind == GOAWAY, "GOAWAY")
    assert (found.code, found.last_stream) == (NO_ERROR, LAST_STREAM)


def second_goaway(peer: Peer, last: int) -> None:
    if len(peer.goaways()) < 2:
        peer.until(lambda seen: seen.kind == GOAWAY, "the second GOAWAY")
    found = peer.goaways()[1]
    assert (found.code, found.last_stream) == (NO_ERROR, last)


def test_draining(own: tuple[Pingap, dict[str, int], signal.Signals]) -> None:
    instance, ports, number = own
    peers = [(Peer(ports[name]), Peer(ports[name]), Peer(ports[name])) for name in NAMES]
    try:
        for busy, late, idle in peers:
            for peer in (busy, late):
                peer.pongs = False
                begin(peer)
                peer.ping()
            idle.ping()
        assert instance.process is not None
        instance.process.send_signal(number)
        for busy, _, idle in peers:
            first_goaway(idle)
            second_goaway(idle, 0)
            idle.wait_closed(3)
            idle.sock.close()
            first_goaway(busy)
            asked = busy.until(lambda seen: seen.kind == PING and not seen.flags & ACK, "a PING to see that the GOAWAY came")
            # What the client sent before it knew is served still.
            busy.send(get(3) + frame(PING, ACK, 0, asked.body))
            assert busy.answer(3).status == 200
            second_goaway(busy, 3)
            # What it sends now is not, and what is in flight goes on.
            busy.send(get(5) + data(1, b"bcd", True))
            assert busy.answer(1).body == b"1234"
            busy.wait_closed()
            assert 5 not in busy.answers or busy.answers[5].code == REFUSED_STREAM
            busy.sock.close()
        for _, late, _ in peers:
            # A client that does not answer the PING is told after a second all the same.
            first_goaway(late)
            second_goaway(late, 1)
            late.send(data(1, b"bcd", True))
            assert late.answer(1).body == b"1234"
            late.wait_closed()
            late.sock.close()
        assert instance.wait_stopped() == 0
    finally:
        for group in peers:
            for peer in group:
                peer.sock.close()
