"""What a client of a working proxy sees: every way of sending a request and of getting its answer."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def proxy(placement: str, nginx: Nginx, shared_origin: Origin) -> Iterator[Pingap]:
    more = f"""
[locations.static]
upstream = "static"
path = "/static"
rewrite = "^/static"
[upstreams.static]
addrs = ["127.0.0.1:{nginx.port}"]
"""
    shared_origin.on["/sha"] = answer_with_digest
    text = site([shared_origin.port], more=more, locations='["all", "static"]')
    with Pingap(text, placement) as instance:
        yield instance


def answer_with_digest(exchange: Exchange) -> None:
    body = exchange.read_body()
    exchange.reply(f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode())


def digest(body: bytes) -> bytes:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def test_a_get_is_answered_by_nginx(proxy: Pingap) -> None:
    response = proxy.get("/static/small")
    assert (response.status, response.body) == (200, b'{"status": "ok"}')
    assert response.get("content-type") == "application/json"
    assert response.get("content-length") == "16"


def test_a_connection_serves_many_requests(proxy: Pingap) -> None:
    with proxy.client() as client:
        for number in range(50):
            assert client.get(f"/static/echo/{number}").body.split()[1] == f"/echo/{number}".encode()


def test_head_gives_the_length_and_no_body(proxy: Pingap) -> None:
    with proxy.client() as client:
        response = client.get("/static/small", method="HEAD")
        assert (response.status, response.get("content-length")) == (200, "16")
        assert client.get("/static/small").body == b'{"status": "ok"}', "the connection goes on"


@pytest.mark.parametrize(("target", "status"), [("/static/status/204", 204), ("/static/cached", 304)])
def test_an_answer_without_a_body_leaves_the_connection_in_step(proxy: Pingap, target: str, status: int) -> None:
    with proxy.client() as client:
        response = client.get(target)
        assert response.status == status
        assert response.get("transfer-encoding") is None
        assert client.get("/static/small").status == 200


def test_an_error_of_the_backend_is_passed_on_as_it_is(proxy: Pingap) -> None:
    response = proxy.get("/static/status/404")
    assert (response.status, response.body) == (404, b"nothing here")


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_a_posted_body_arrives_whole(proxy: Pingap, size: int, big_file: bytes) -> None:
    body = big_file[:size]
    assert proxy.get("/sha", method="POST", body=body).body == digest(body)


def test_a_chunked_body_arrives_whole(proxy: Pingap, big_file: bytes) -> None:
    with proxy.client() as client:
        client.send(b"POST /sha HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent, sizes = 0, [1, 7, 4096, 70000, 1, 200000]
        for size in sizes:
            part = big_file[sent : sent + size]
            client.send(b"%x\r\n%b\r\n" % (size, part))
            sent += size
        client.send(b"0\r\n\r\n")
        assert client.response().body == digest(big_file[:sent])
        assert client.get("/static/small").status == 200


def test_a_large_download_is_byte_exact(proxy: Pingap, big_file: bytes) -> None:
    response = proxy.get("/static/big/file")
    assert response.get("content-length") == str(len(big_file))
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(big_file).digest()


def test_a_large_upload_is_byte_exact(proxy: Pingap, big_file: bytes) -> None:
    with proxy.client(timeout=30) as client:
        assert client.get("/sha", method="PUT", body=big_file).body == digest(big_file)


def test_a_large_upload_with_a_full_download_in_return(proxy: Pingap, shared_origin: Origin, big_file: bytes) -> None:
    def echo_as_it_comes(exchange: Exchange) -> None:
        length = int(exchange.get("content-length") or "0")
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        while length:
            part = exchange.receive()
            length -= len(part)
            exchange.send(part)

    shared_origin.on["/mirror"] = echo_as_it_comes
    body = big_file[: 8 << 20]
    with proxy.client(timeout=30) as client:
        sender = threading.Thread(target=lambda: client.request("/mirror", "POST", body=body))
        sender.start()
        response = client.response(timeout=30)
        sender.join(10)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_a_chunked_answer_arrives_whole_and_the_connection_stays(proxy: Pingap, shared_origin: Origin) -> None:
    parts = [b"x" * size for size in (1, 100, 70000, 3)]

    def chunked(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            exchange.send(b"%x;ext=1\r\n%b\r\n" % (len(part), part))
        exchange.send(b"0\r\nX-Trailer: yes\r\n\r\n")

    shared_origin.on["/chunked"] = chunked
    with proxy.client() as client:
        for _ in range(2):
            response = client.get("/chunked")
            assert response.body == b"".join(parts)
            assert response.get("content-length") in (None, str(sum(map(len, parts)))), "one framing, or the other"


def test_an_answer_that_ends_with_the_connection_is_framed_for_the_client(proxy: Pingap, shared_origin: Origin) -> None:
    def until_close(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"y" * 100_000)
        exchange.close()

    shared_origin.on["/until-close"] = until_close
    with proxy.client() as client:
        assert client.get("/until-close").body == b"y" * 100_000
        assert client.get("/static/small").status == 200, "the client's connection does not end with the backend's"


def test_an_answer_without_a_known_length_ends_with_the_connection_for_http_1_0(proxy: Pingap, shared_origin: Origin) -> None:
    def chunked(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    shared_origin.on["/chunked10"] = chunked
    with proxy.client() as client:
        client.send(b"GET /chunked10 HTTP/1.0\r\nHost: a\r\n\r\n")
        response = client.response()
        assert response.get("transfer-encoding") is None
        assert response.body == b"hello"


def test_pipelined_requests_are_answered_in_order(proxy: Pingap, shared_origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.2)
        exchange.reply(b"slow")

    shared_origin.on["/slow"] = slow
    with proxy.client() as client:
        targets = ["/slow", "/static/echo/1", "/p2", "/slow", "/p3"]
        client.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for target in targets))
        bodies = [client.response().body for _ in targets]
    assert bodies[0] == b"slow"
    assert bodies[1].split()[1] == b"/echo/1"
    assert bodies[2:] == [b"/p2", b"slow", b"/p3"]


def test_a_pipelined_post_does_not_swallow_the_next_request(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(
            b"POST /sha HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            b"POST /sha HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert [client.response().body for _ in range(3)] == [digest(b"hello"), digest(b"abc"), b"/after"]


def test_requests_arriving_byte_by_byte_are_understood(proxy: Pingap) -> None:
    with proxy.client() as client:
        for byte in b"POST /sha HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().body == digest(b"abc")


def test_expect_100_continue_is_answered_before_the_body_comes(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"POST /sha HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.head().status == 100
        client.send(b"hello")
        response = client.response()
        assert (response.status, response.body, response.informational) == (200, digest(b"hello"), [])


def test_a_refusal_spares_the_body_that_expect_100_continue_holds_back(proxy: Pingap, shared_origin: Origin) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.reply(b"no", "403 Forbidden", "Connection: close\r\n")
        exchange.close()

    shared_origin.on["/refuse"] = refuse
    with proxy.client() as client:
        client.send(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        response = client.response()
        assert response.status == 403


def test_an_early_answer_reaches_the_client_while_its_body_is_still_on_the_way(proxy: Pingap, shared_origin: Origin) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.receive(1)
        exchange.reply(b"too much", "413 Content Too Large", "Connection: close\r\n")
        exchange.close()

    shared_origin.on["/early"] = refuse
    with proxy.client() as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"z" * 200_000)
        response = client.response()
        assert (response.status, response.body) == (413, b"too much")
    assert proxy.get("/static/small").status == 200


def test_events_of_a_stream_reach_the_client_one_by_one(proxy: Pingap, shared_origin: Origin) -> None:
    allowed = threading.Semaphore(0)

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            assert allowed.acquire(timeout=10)
            exchange.send(b"data: %d\n\n" % number)
        exchange.close()

    shared_origin.on["/events"] = events
    with proxy.client() as client:
        client.request("/events")
        assert client.head().get("content-type") == "text/event-stream", "the head is flushed before any event"
        for number in range(3):
            allowed.release()
            seen = b""
            while b"data: %d\n\n" % number not in seen:
                seen += client.exactly(1)


def test_header_order_and_duplicates_are_kept_and_hop_by_hop_lines_are_dropped(proxy: Pingap, shared_origin: Origin) -> None:
    def reply(exchange: Exchange) -> None:
        headers = "Set-Cookie: a=1\r\nX-One: 1\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        exchange.reply(b"ok", headers=headers)

    shared_origin.on["/headers"] = reply
    with proxy.client() as client:
        client.send(
            b"GET /headers HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\nConnection: X-Secret, keep-alive\r\nX-Secret: s\r\n"
            b"Keep-Alive: 300\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\r\n"
        )
        response = client.response()
    assert response.all("set-cookie") == ["a=1", "b=2"]
    assert response.get("x-hop") is None
    assert response.get("keep-alive") is None
    request = shared_origin.wait("/headers")
    assert [(name, value) for name, value in request.headers() if name.startswith("x-")] == [("x-b", "1"), ("x-a", "2"), ("x-b", "3")]
    assert not {"keep-alive", "proxy-connection"} & {name for name, _ in request.headers()}
    assert "x-secret" not in (request.get("connection") or "").lower()


def test_the_host_of_the_client_reaches_the_backend_once(proxy: Pingap, shared_origin: Origin) -> None:
    with proxy.client() as client:
        client.request("/host", host="Example.com:8080")
        client.response()
    assert shared_origin.wait("/host").all("host")[0].lower() == "example.com:8080"


def test_an_absolute_target_is_turned_into_origin_form(proxy: Pingap, shared_origin: Origin) -> None:
    with proxy.client() as client:
        client.send(b"GET http://named.example/absolute?q=1 HTTP/1.1\r\nHost: named.example\r\n\r\n")
        assert client.response().status == 200
    request = shared_origin.wait("/absolute")
    assert (request.target, request.get("host")) == ("/absolute?q=1", "named.example")


def test_connection_close_is_honoured(proxy: Pingap) -> None:
    with proxy.client() as client:
        response = client.get("/static/small", headers={"Connection": "close"})
        assert response.get("connection") == "close"
        assert client.is_closed()


def test_http_1_0_closes_unless_asked_to_keep(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"GET /static/small HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
        assert client.is_closed()
    with proxy.client() as client:
        client.send(b"GET /static/small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = client.response()
        assert (response.get("connection") or "").lower() == "keep-alive"
        assert client.get("/static/small").status == 200


def test_a_client_that_shuts_down_its_sending_side_still_gets_its_answer(proxy: Pingap, shared_origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.reply(b"late")

    shared_origin.on["/half-closed"] = slow
    with proxy.client() as client:
        client.request("/half-closed", headers={"Connection": "close"})
        client.sock.shutdown(socket.SHUT_WR)
        try:
            body = client.response().body
        except Exception:
            return  # taken for a client that left: allowed, as long as it is noticed at once and not hung
        assert body == b"late"


def test_informational_answers_of_the_backend_do_not_confuse_the_client(proxy: Pingap, shared_origin: Origin) -> None:
    def hinted(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        exchange.reply(b"final")

    shared_origin.on["/hints"] = hinted
    with proxy.client() as client:
        assert client.get("/hints").body == b"final"
        assert client.get("/static/small").status == 200


def test_bytes_after_an_upgrade_that_the_backend_refused_are_a_request_and_no_tunnel(proxy: Pingap, shared_origin: Origin) -> None:
    with proxy.client() as client:
        client.send(
            b"GET /no-upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            b"GET /after-no-upgrade HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert client.response().body == b"/no-upgrade"
        assert client.response().body == b"/after-no-upgrade"
    assert shared_origin.wait("/after-no-upgrade").method == "GET"


def test_a_backend_cannot_switch_protocols_on_its_own(proxy: Pingap, shared_origin: Origin) -> None:
    def switch(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw bytes")
        exchange.is_gone(2)
        exchange.close()

    shared_origin.on["/switch"] = switch
    with proxy.client() as client:
        assert client.get("/switch").status == 502


def test_a_hundred_connections_get_their_own_answers(proxy: Pingap) -> None:
    clients = [Client(proxy.port) for _ in range(100)]
    try:
        for turn in range(3):
            for number, client in enumerate(clients):
                client.request(f"/own/{turn}/{number}")
            for number, client in enumerate(clients):
                assert client.response().body == f"/own/{turn}/{number}".encode()
    finally:
        for client in clients:
            client.close()


def test_backend_connections_are_reused(proxy: Pingap, nginx: Nginx) -> None:
    mark = f"/echo/reuse-{proxy.placement}"
    with proxy.client() as client:
        for number in range(20):
            client.get(f"/static{mark}{number}")

    def logged() -> list[str]:
        return [line for line in nginx.requests() if mark in line]

    until(lambda: len(logged()) == 20, 5, "nginx logged all")
    assert len({line.split()[3] for line in logged()}) <= 2


def test_a_location_may_ignore_that_its_client_closes(placement: str, origin: Origin) -> None:
    asked, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def job(exchange: Exchange) -> None:
        asked.set()
        assert go_on.wait(10)
        gone = exchange.is_gone(0.2)
        exchange.reply(b"done")
        if not gone:
            done.set()

    origin.on["/job"] = job
    log = 'access_log = "{dir}/access.log {path} {status}"'
    more = '[locations.job]\npath = "/job"\nupstream = "origin"\nignore_client_close = true\n'
    with Pingap(site([origin.port], locations='["job", "all"]', server=log, more=more), placement) as proxy:
        for half in (True, False):
            for event in (asked, go_on, done):
                event.clear()
            with proxy.client() as client:
                client.request("/job")
                assert asked.wait(10)
                if half:
                    client.sock.shutdown(socket.SHUT_WR)
                else:
                    client.close()
                go_on.set()
                if half:
                    assert client.rest().endswith(b"\r\n\r\ndone")
            assert done.wait(10)
        access = proxy.dir / "access.log"
        until(lambda: access.exists() and len(access.read_text().splitlines()) == 2, 10, "both are in the log")
        assert access.read_text().splitlines() == ["/job 200", "/job 200"]
