"""gRPC through pingap: grpcio on both sides, plain and over TLS, with both engines of HTTP/2."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.grpc_peer import INITIAL, SERVING, TRAILING, Peer, Stub, error_of
from tests.e2e.harness import PLACEMENTS, Pingap, site
from tests.e2e.http2_origin import Http2Origin
from tests.kit.waiting import free_port, until

WITHIN = 20.0
"""Seconds that a call may take on a busy machine."""
LARGE = 10 * 1024 * 1024
CUT = "The answer was cut off."


@dataclass(frozen=True, slots=True)
class Proxy:
    instance: Pingap
    tls_port: int
    certificate: bytes
    spare_port: int
    """That of the backend which tests start and kill."""
    is_split: bool

    def stub(self, tls: bool = False, authority: str = "", **options: Any) -> Stub:
        if authority:
            options["grpc.default_authority"] = authority
        if tls:
            return Stub(f"127.0.0.1:{self.tls_port}", self.certificate, **options)
        return Stub(f"127.0.0.1:{self.instance.port}", **options)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    server = Peer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def broken() -> Iterator[Http2Origin]:
    """A backend that breaks off."""
    server = Http2Origin()
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module", params=[(name, "h2") for name in PLACEMENTS] + [("split", "ngh2")], ids="-".join)
def proxy(request: pytest.FixtureRequest, peer: Peer, broken: Http2Origin) -> Iterator[Proxy]:
    placement, engine = request.param
    if engine == "ngh2":
        pytest.importorskip("ngh2")
    certificate, key = self_signed("test.local")
    tls_port, spare_port = free_port(), free_port()
    config = site(
        [peer.port],
        server=f'enabled_h2 = true\nhttp2_engine = "{engine}"',
        upstream=f'alpn = "h2"\nhttp2_engine = "{engine}"\nread_timeout = "30s"',
        locations='["spare", "nowhere", "plugged", "locked", "broken", "impatient", "all"]',
        more=f"""
[servers.secure]
addr = "127.0.0.1:{tls_port}"
locations = ["spare", "nowhere", "plugged", "locked", "all"]
global_certificates = true
enabled_h2 = true
http2_engine = "{engine}"
[locations.spare]
upstream = "spare"
host = "spare.local"
[upstreams.spare]
addrs = ["127.0.0.1:{spare_port}"]
health_check = "tcp://x?failure=1000"
alpn = "h2"
http2_engine = "{engine}"
[locations.plugged]
upstream = "origin"
host = "plugged.local"
plugins = ["headers", "zip"]
[plugins.headers]
category = "response_headers"
add_headers = ["X-Seen: yes"]
[plugins.zip]
category = "compression"
gzip_level = 6
[locations.locked]
upstream = "origin"
host = "locked.local"
plugins = ["keys"]
[plugins.keys]
category = "key_auth"
query = "key"
keys = ["secret"]
[locations.nowhere]
upstream = "nowhere"
host = "nowhere.local"
[upstreams.nowhere]
addrs = ["127.0.0.1:1"]
health_check = "tcp://x?failure=1000"
alpn = "h2"
[locations.broken]
upstream = "broken"
host = "broken.local"
[upstreams.broken]
addrs = ["127.0.0.1:{broken.port}"]
alpn = "h2"
http2_engine = "{engine}"
[locations.impatient]
upstream = "impatient"
host = "impatient.local"
[upstreams.impatient]
addrs = ["127.0.0.1:{peer.port}"]
read_timeout = "500ms"
alpn = "h2"
http2_engine = "{engine}"
[certificates.test]
tls_cert = '''{certificate}'''
tls_key = '''{key}'''
""",
    )
    with Pingap(config, placement) as instance:
        yield Proxy(instance, tls_port, certificate.encode(), spare_port, placement == "split")


@pytest.fixture(params=["h2c", "tls"])
def stub(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Stub]:
    with proxy.stub(request.param == "tls") as made:
        yield made


def pairs(metadata: object) -> set[tuple[str, object]]:
    return {(key, value) for key, value in metadata}  # type: ignore[attr-defined]


# -- the four kinds of call -----------------------------------------------------------


def test_a_unary_call_brings_message_metadata_and_trailers(stub: Stub, peer: Peer) -> None:
    sent = (("x-asked", "yes"), ("x-asked-bin", bytes(range(256))))
    message, call = stub.echo.with_call(b"hello", metadata=sent, timeout=WITHIN)
    assert message == b"hello"
    assert pairs(call.initial_metadata()) >= set(INITIAL)
    assert pairs(call.trailing_metadata()) >= set(TRAILING)
    assert peer.seen["Echo"].items() >= dict(sent).items()
    assert call.code() is grpc.StatusCode.OK


def test_a_client_streams_messages_of_any_length(stub: Stub) -> None:
    messages = [b"", b"a", b"b" * 100_000, b"", b"c"]
    assert stub.collect(iter(messages), timeout=WITHIN) == b"|".join(messages)


def test_a_server_streams_messages(stub: Stub) -> None:
    call = stub.count(b"100", metadata=[("size", "1000")], timeout=WITHIN)
    assert [message.rstrip(b"\0") for message in call] == [b"%d" % number for number in range(100)]
    assert pairs(call.initial_metadata()) >= set(INITIAL) and pairs(call.trailing_metadata()) >= set(TRAILING)


def test_both_stream_and_each_message_passes_at_once(stub: Stub) -> None:
    to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = stub.chat(iter(to_send.get, None), timeout=WITHIN)
    for number in range(50):
        to_send.put(b"ping %d" % number)
        assert next(call) == b"PING %d" % number  # before the next is sent
    to_send.put(None)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_health_checks_pass(stub: Stub) -> None:
    assert stub.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x04main", timeout=WITHIN) == SERVING


# -- statuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 3, 5, 7, 13, 16])
def test_a_status_without_any_message_passes_with_its_text_and_details(stub: Stub, code: int) -> None:
    error = error_of(lambda: stub.fail("nicht möglich: 100 %".encode(), metadata=[("code", str(code))], timeout=WITHIN))
    assert (error.code().value[0], error.details()) == (code, "nicht möglich: 100 %")
    assert pairs(error.trailing_metadata()) >= {*TRAILING, ("grpc-status-details-bin", b"\x08\x05details")}


def test_a_status_after_messages_passes_with_them(stub: Stub) -> None:
    call = stub.fail_late(b"enough", metadata=[("code", "9")], timeout=WITHIN)
    assert [next(call), next(call)] == [b"one", b"two"]
    error = error_of(lambda: next(call))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "enough")
    assert pairs(error.trailing_metadata()) >= set(TRAILING)


def test_a_method_that_the_server_does_not_have_is_unimplemented(stub: Stub) -> None:
    error = error_of(lambda: stub.channel.unary_unary("/pingap.test.Peer/Nothing")(b"", timeout=WITHIN))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("host", "code", "details"),
    [
        ("nowhere.local", grpc.StatusCode.UNAVAILABLE, "No connection to the backend."),
        ("locked.local", grpc.StatusCode.UNAUTHENTICATED, "Key missing"),
    ],
)
def test_an_error_of_ours_is_a_status_with_a_text(proxy: Proxy, host: str, code: grpc.StatusCode, details: str) -> None:
    with proxy.stub(authority=host) as stub:
        error = error_of(lambda: stub.echo(b"x", timeout=WITHIN))
        assert (error.code(), error.details()) == (code, details)


def test_response_plugins_leave_messages_and_trailers_alone(proxy: Proxy) -> None:
    with proxy.stub(authority="plugged.local") as stub:
        call = stub.count(b"20", metadata=[("size", "5000"), ("accept-encoding", "gzip")], timeout=WITHIN)
        assert [len(message) for message in call] == [len(b"%d" % number) + 5000 for number in range(20)]
        assert pairs(call.initial_metadata()) >= {*INITIAL, ("x-seen", "yes")} and pairs(call.trailing_metadata()) >= set(TRAILING)
        assert error_of(lambda: stub.fail(b"no", metadata=[("code", "5")], timeout=WITHIN)).code() is grpc.StatusCode.NOT_FOUND


# -- the end of calls ---------------------------------------------------------------------


def test_a_deadline_reaches_the_server_and_ends_the_call_on_both_sides(stub: Stub, peer: Peer) -> None:
    message = f"deadline {time.monotonic()}".encode()
    error = error_of(lambda: stub.hang(message, timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert peer.started_event(message).wait(WITHIN) and peer.ended_event(message).wait(WITHIN)


def test_a_client_that_cancels_is_heard_of_at_the_backend(stub: Stub, peer: Peer) -> None:
    message = f"cancel {time.monotonic()}".encode()
    call = stub.hang.future(message)  # no deadline: nothing but the cancellation can end it
    assert peer.started_event(message).wait(WITHIN)
    assert not peer.ended_event(message).is_set()
    call.cancel()
    assert peer.ended_event(message).wait(WITHIN)
    assert stub.echo(b"still there", timeout=WITHIN) == b"still there"


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_heard_of(proxy: Proxy, peer: Peer) -> None:
    message = f"leave {time.monotonic()}".encode()
    with proxy.stub() as stub:
        call = stub.hang.future(message)
        assert peer.started_event(message).wait(WITHIN) and not call.done()
    assert peer.ended_event(message).wait(WITHIN)


def test_a_backend_that_dies_makes_its_calls_unavailable_and_may_come_back(proxy: Proxy) -> None:
    def serve() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.e2e.grpc_peer", str(proxy.spare_port)], cwd=Path(__file__).parents[2])

    def answers(stub: Stub) -> bool:
        try:
            return bool(stub.echo(b"there?", timeout=WITHIN) == b"there?")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return False

    to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with proxy.stub(authority="spare.local") as stub:
        backend = serve()
        try:
            until(lambda: answers(stub), WITHIN, "the backend answers")
            call = stub.chat(iter(queue.SimpleQueue().get, None), timeout=WITHIN)
            begun = stub.chat(iter(to_send.get, None), timeout=WITHIN)
            opened = stub.hang.future(b"never")
            to_wait = threading.Event()
            opened.add_callback(to_wait.set)
            until(lambda: answers(stub), WITHIN, "the backend answers while others wait")
            to_send.put(b"begun")
            assert next(begun) == b"BEGUN"
            backend.kill()
            backend.wait(WITHIN)
            error = error_of(lambda: next(begun))
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, f"{CUT} The backend gave no valid answer.")
            assert error_of(lambda: opened.result(WITHIN)).code() is grpc.StatusCode.UNAVAILABLE
            assert error_of(lambda: next(call)).code() is grpc.StatusCode.UNAVAILABLE
            assert error_of(lambda: stub.echo(b"x", timeout=WITHIN)).code() is grpc.StatusCode.UNAVAILABLE
            backend = serve()
            until(lambda: answers(stub), WITHIN, "the new backend answers")
        finally:
            backend.kill()
            backend.wait(WITHIN)


@pytest.mark.parametrize("where", ["boundary", "middle"])
def test_a_stream_that_breaks_off_is_unavailable_after_the_messages_that_are_whole(proxy: Proxy, where: str) -> None:
    with proxy.stub(authority="broken.local") as stub:
        call = stub.channel.unary_stream(f"/grpc-{where}")(b"", timeout=WITHIN)
        assert next(call) == b"one"
        assert where == "middle" or next(call) == b"two"
        error = error_of(lambda: next(call))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, f"{CUT} The backend gave no valid answer.")


def test_a_call_that_its_server_cancels_is_cancelled(proxy: Proxy) -> None:
    with proxy.stub(authority="broken.local") as stub:
        call = stub.channel.unary_stream("/grpc-cancelled")(b"", timeout=WITHIN)
        assert next(call) == b"one"
        assert error_of(lambda: next(call)).code() is grpc.StatusCode.CANCELLED


def test_a_stream_in_which_the_backend_falls_silent_is_unavailable(proxy: Proxy) -> None:
    to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with proxy.stub(authority="impatient.local") as stub:
        call = stub.chat(iter(to_send.get, None), timeout=WITHIN)
        to_send.put(b"one")
        assert next(call) == b"ONE"
        to_send.put(None)
        assert list(call) == []
        call = stub.count(b"1", metadata=[("then", "hang")], timeout=WITHIN)
        assert next(call) == b"0"
        error = error_of(lambda: next(call))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, f"{CUT} The backend took too long to answer.")


def test_a_stage_that_dies_makes_its_calls_unavailable_and_leaves_the_channel_as_it_is(proxy: Proxy) -> None:
    if not proxy.is_split:
        pytest.skip("colocated, clients lose their connection with it")
    to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with proxy.stub() as stub:
        states: list[grpc.ChannelConnectivity] = []
        call = stub.chat(iter(to_send.get, None), timeout=WITHIN)
        to_send.put(b"begun")
        assert next(call) == b"BEGUN"
        stub.channel.subscribe(states.append)
        old = proxy.instance.pid("upstream")
        os.kill(old, signal.SIGKILL)
        error = error_of(lambda: next(call))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            f"{CUT} The stage that handled this request was lost.",
        )
        proxy.instance.wait_restarted("upstream", old)
        assert stub.echo(b"again", timeout=WITHIN, wait_for_ready=True) == b"again"
        assert set(states) <= {grpc.ChannelConnectivity.READY}


# -- much at once ------------------------------------------------------------------------------


def test_large_messages_pass_both_ways(stub: Stub) -> None:
    message = bytes(range(256)) * (LARGE // 256)
    assert stub.echo(message, timeout=WITHIN) == message


def test_two_hundred_calls_at_a_time_on_one_channel(stub: Stub) -> None:
    calls = [stub.echo.future(b"call %d" % number, timeout=WITHIN) for number in range(200)]
    assert [call.result(WITHIN) for call in calls] == [b"call %d" % number for number in range(200)]


def test_a_stream_that_nobody_reads_does_not_stop_the_others(stub: Stub) -> None:
    unread = stub.count(b"200", metadata=[("size", "100000")], timeout=WITHIN)
    assert next(unread).startswith(b"0")
    assert [stub.echo(b"%d" % number, timeout=WITHIN) for number in range(10)] == [b"%d" % number for number in range(10)]
    assert sum(1 for _ in unread) == 199


def test_compressed_messages_pass_as_they_are(stub: Stub) -> None:
    message, call = stub.echo.with_call(b"x" * 10_000, metadata=[("gzip", "1")], compression=grpc.Compression.Gzip, timeout=WITHIN)
    assert message == b"x" * 10_000
    assert call.code() is grpc.StatusCode.OK


def test_keepalive_pings_are_answered_while_a_call_is_silent(proxy: Proxy) -> None:
    options: dict[str, Any] = {"grpc.keepalive_time_ms": 200, "grpc.http2.ping_timeout_ms": 1200, "grpc.http2.max_pings_without_data": 0}
    to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with proxy.stub(**options) as stub:
        call = stub.chat(iter(to_send.get, None), timeout=WITHIN)
        to_send.put(b"before")
        assert next(call) == b"BEFORE"
        threading.Event().wait(2.6)  # gRPC pings once a second at the most: without an answer it gives up after 2.2 s
        to_send.put(b"after")
        assert next(call) == b"AFTER"
        to_send.put(None)
        assert list(call) == []
