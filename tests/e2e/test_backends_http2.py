"""Backends that speak HTTP/2: nghttpd and a server on `h2`, with both engines and in both placements."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from h2.settings import SettingCodes

from tests.e2e.client import Client, Closed, Response
from tests.e2e.harness import PLACEMENTS, Pingap, site
from tests.e2e.http2_origin import Http2Origin
from tests.e2e.test_flow import MB, Peak
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY}
CANCEL = 8


@pytest.fixture(scope="module")
def origin() -> Iterator[Http2Origin]:
    server = Http2Origin(settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def narrow() -> Iterator[Http2Origin]:
    """One that lets others have two streams and a small window."""
    server = Http2Origin(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2, SettingCodes.INITIAL_WINDOW_SIZE: 4000})
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, big_file: bytes) -> Path:
    root = tmp_path_factory.mktemp("www")
    (root / "file").write_bytes(big_file)
    (root / "small").write_bytes(b"small")
    return root


@pytest.fixture(scope="module")
def nghttpd(files: Path) -> Iterator[int]:
    """The port of nghttpd, which serves `files` and takes whatever is posted."""
    needs("nghttpd")
    port = free_port()
    process = subprocess.Popen(["nghttpd", "--no-tls", "-d", str(files), str(port)], stdout=subprocess.DEVNULL)

    def accepts() -> bool:
        with contextlib.suppress(OSError), Client(port):
            return True
        return False

    until(accepts, 10, "nghttpd accepts connections")
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module", params=[(name, "h2") for name in PLACEMENTS] + [("split", "ngh2")], ids="-".join)
def proxy(request: pytest.FixtureRequest, origin: Http2Origin, narrow: Http2Origin, nghttpd: int) -> Iterator[Pingap]:
    placement, engine = request.param
    if engine == "ngh2":
        pytest.importorskip("ngh2")
    more = f'alpn = "h2"\nhttp2_engine = "{engine}"'
    with Pingap(
        site(
            [origin.port],
            upstream=f'{more}\nread_timeout = "20s"',
            locations='["files", "narrow", "impatient", "all"]',
            more=f"""
[locations.files]
path = "/files"
rewrite = "^/files(.*)$ $1"
upstream = "files"
[locations.narrow]
host = "narrow.local"
upstream = "narrow"
[locations.impatient]
host = "impatient.local"
upstream = "impatient"
[upstreams.files]
addrs = ["127.0.0.1:{nghttpd}"]
{more}
[upstreams.narrow]
addrs = ["127.0.0.1:{narrow.port}"]
max_connections = 1
{more}
[upstreams.impatient]
addrs = ["127.0.0.1:{origin.port}"]
read_timeout = "500ms"
{more}
""",
        ),
        placement,
    ) as instance:
        yield instance


@pytest.fixture(autouse=True)
def from_the_start(origin: Http2Origin, narrow: Http2Origin) -> None:
    origin.requests.clear()
    narrow.requests.clear()


def at_once(proxy: Pingap, count: int, target: str, host: str = "test.local", body: bytes | None = None) -> list[Response]:
    """Asks `count` times at the same time, each on a connection of its own."""
    clients = [proxy.client(timeout=30) for _ in range(count)]
    try:
        for client in clients:
            client.request(target, "GET" if body is None else "POST", body=body, host=host)
        return [client.response() for client in clients]
    finally:
        for client in clients:
            client.close()


# -- nghttpd --------------------------------------------------------------------------------------


def test_a_large_download_is_byte_exact(proxy: Pingap, big_file: bytes) -> None:
    with proxy.client(timeout=60) as client:
        assert client.get("/files/file").body == big_file


def test_several_downloads_at_once_do_not_mix(proxy: Pingap, big_file: bytes) -> None:
    answers = at_once(proxy, 4, "/files/file")
    assert [response.body == big_file for response in answers] == [True] * 4


def test_nghttpd_answers_head_ranges_and_what_is_not_there(proxy: Pingap) -> None:
    with proxy.client() as client:
        head = client.get("/files/small", "HEAD")
        assert (head.status, head.get("content-length"), head.body) == (200, "5", b"")
        assert client.get("/files/nowhere").status == 404
        assert client.get("/files/small").body == b"small"


# -- uploads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_large_upload_is_byte_exact(proxy: Pingap, origin: Http2Origin, big_file: bytes, is_chunked: bool) -> None:
    with proxy.client(timeout=60) as client:
        if is_chunked:
            client.send(b"POST /upload HTTP/1.1\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(big_file), MB):
                client.send(b"%x\r\n%b\r\n" % (MB, big_file[at : at + MB]))
            client.send(b"0\r\n\r\n")
        else:
            client.request("/upload", "POST", body=big_file)
        assert client.response().body.decode() == f"{hashlib.sha256(big_file).hexdigest()} {len(big_file)}"
    assert origin.wait("/upload").fields.get("content-length") == (None if is_chunked else str(len(big_file)))


def test_uploads_through_a_small_window_are_byte_exact(proxy: Pingap) -> None:
    body = random.Random(3).randbytes(300_000)
    answers = at_once(proxy, 4, "/upload", "narrow.local", body)
    assert {response.body.decode() for response in answers} == {f"{hashlib.sha256(body).hexdigest()} {len(body)}"}


def test_a_backend_that_takes_nothing_holds_the_client_and_not_the_memory(proxy: Pingap, narrow: Http2Origin) -> None:
    done = threading.Event()

    def upload() -> None:
        with contextlib.suppress(OSError, Closed), proxy.client(timeout=60) as client:
            client.sock.sendall(b"POST /upload HTTP/1.1\r\nHost: narrow.local\r\nContent-Length: %d\r\n\r\n" % (32 * MB))
            for _ in range(8):
                client.sock.sendall(bytes(4 * MB))
            client.response()
        done.set()

    with Peak(proxy) as memory:
        thread = threading.Thread(target=upload)
        thread.start()
        thread.join(60)
    assert done.is_set()
    assert narrow.wait("/upload").size == 32 * MB
    assert memory.grown < 20 * MB


# -- sharing -------------------------------------------------------------------------------------------


def test_requests_share_connections(proxy: Pingap, origin: Http2Origin) -> None:
    proxy.get("/first")
    before = origin.connections
    answers = at_once(proxy, 20, "/many")
    assert {response.status for response in answers} == {200}
    assert origin.connections == before


def test_where_only_two_streams_are_allowed_the_others_wait_for_their_turn(proxy: Pingap, narrow: Http2Origin) -> None:
    answers = at_once(proxy, 30, "/turns", "narrow.local")
    assert [response.status for response in answers] == [200] * 30
    assert len({request.connection for request in narrow.seen("/turns")}) == 1


def test_an_answer_that_nobody_reads_does_not_stop_the_others(proxy: Pingap, origin: Http2Origin) -> None:
    with proxy.client(receive_buffer=65536) as slow:
        slow.request("/large")
        request = origin.wait("/large")
        assert [response.status for response in at_once(proxy, 5, "/quick")] == [200] * 5
        same = [quick.connection for quick in origin.seen("/quick")]
        assert request.connection in same
    until(lambda: request.reset == CANCEL, 10, "the stream of the client that left is reset")
    assert proxy.get("/after").status == 200


# -- what may go wrong --------------------------------------------------------------------------------------


def test_a_refused_post_is_asked_again(proxy: Pingap, origin: Http2Origin) -> None:
    answer = proxy.get("/refused", method="POST", body=b"order")
    assert (answer.status, answer.body) == (200, b"taken")
    assert [request.size for request in origin.seen("/refused")] == [5, 5]


def test_one_that_is_always_refused_ends_as_a_bad_gateway(proxy: Pingap, origin: Http2Origin) -> None:
    assert proxy.get("/always-refused").status == 502
    assert len(origin.seen("/always-refused")) == 4


def test_a_post_that_a_leaving_backend_has_not_touched_goes_to_a_new_connection(proxy: Pingap, origin: Http2Origin) -> None:
    answer = proxy.get("/untouched", method="POST", body=b"order")
    assert (answer.status, answer.body) == (200, b"taken elsewhere")
    first, second = origin.seen("/untouched")
    assert first.connection != second.connection


def test_a_leaving_backend_finishes_what_it_has(proxy: Pingap, origin: Http2Origin) -> None:
    assert proxy.get("/last").body == b"the last"
    assert proxy.get("/next").status == 200
    assert origin.seen("/last")[0].connection != origin.seen("/next")[0].connection


@pytest.mark.parametrize("path", ["/cut", "/gone"])
def test_an_answer_that_breaks_off_never_looks_complete(proxy: Pingap, path: str) -> None:
    with proxy.client() as client, pytest.raises(Closed):
        client.request(path)
        client.response()


def test_a_stream_that_is_reset_is_a_bad_gateway_and_is_not_asked_again(proxy: Pingap, origin: Http2Origin) -> None:
    assert proxy.get("/broken").status == 502
    assert len(origin.seen("/broken")) == 1


def test_an_answer_before_the_upload_is_through_is_passed_on(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: test.local\r\nContent-Length: 10000000\r\n\r\n" + bytes(100_000))
        answer = client.response()
        assert (answer.status, answer.body) == (413, b"too much")


def test_a_backend_that_says_nothing_is_waited_for_only_so_long(proxy: Pingap, origin: Http2Origin) -> None:
    with proxy.client() as client:
        client.request("/silent", host="impatient.local")
        assert client.response().status == 504
        client.request("/other", host="impatient.local")
        assert client.response().status == 200


def test_a_client_that_leaves_is_heard_of_by_the_backend(proxy: Pingap, origin: Http2Origin) -> None:
    with proxy.client() as client:
        client.request("/silent")
        request = origin.wait("/silent")
    until(lambda: request.reset == CANCEL, 10, "the stream is reset")


# -- trailers, interim answers, tunnels --------------------------------------------------------------------------


def test_trailers_come_through(proxy: Pingap) -> None:
    answer = proxy.get("/trailers", headers={"TE": "trailers", "Connection": "TE"})
    assert (answer.body, answer.trailers) == (b"body", [("x-sum", "7"), ("x-path", "/trailers")])


def test_trailers_of_a_request_reach_the_backend(proxy: Pingap, origin: Http2Origin) -> None:
    with proxy.client() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n")
        assert client.response().status == 200
    assert origin.wait("/upload").trailers == {"x-sum": "7"}


def test_early_hints_come_through(proxy: Pingap) -> None:
    answer = proxy.get("/hints")
    assert (answer.informational, answer.body) == ([103], b"final")


def test_a_websocket_handshake_becomes_an_extended_connect(proxy: Pingap, origin: Http2Origin) -> None:
    with proxy.client() as client:
        client.request("/ws", headers=UPGRADE | {"Sec-WebSocket-Protocol": "chat"})
        answer = client.response()
        assert (answer.status, answer.get("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        assert (answer.get("upgrade"), answer.get("sec-websocket-protocol")) == ("websocket", "chat")
        body = random.Random(4).randbytes(3 * MB)
        thread = threading.Thread(target=client.sock.sendall, args=(body,))
        thread.start()
        assert client.exactly(len(body)) == body
        thread.join(10)
    fields = origin.wait("/ws").fields
    assert (fields[":method"], fields[":protocol"]) == ("CONNECT", "websocket")
    assert fields["sec-websocket-key"] == UPGRADE["Sec-WebSocket-Key"], "Envoy may need it for its own backend"


def test_a_backend_without_extended_connect_cannot_take_a_websocket(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.request("/ws", headers=UPGRADE, host="narrow.local")
        assert client.response().status == 502
    proxy.wait_output("does not take extended CONNECT")
