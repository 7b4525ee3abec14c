"""HTTP/1.1 section by section of RFC 9110 and 9112, with a client and an origin on bare sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.e2e.client import Client, Response
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

WITHIN = 10.0

SPLITTER = """
from pingap.plugin import Plugin, CONTINUE

class Splitter(Plugin):
    def request(self, exchange):
        value = "a" + chr(int(exchange.query_value("byte"))) + "X-Split: yes"
        if exchange.path.endswith("/reply"):
            return exchange.respond(200, "split", {"X-Own": value})
        if exchange.path.endswith("/request"):
            exchange.headers.set("x-own", value)
        if exchange.path.endswith("/target"):
            exchange.target = "/" + value
        return CONTINUE

    def response(self, exchange):
        exchange.response.headers.add("x-own", "a" + chr(int(exchange.query_value("byte"))) + "X-Split: yes")
        return CONTINUE
"""

GUARD = """
from pingap.plugin import Plugin, CONTINUE

class Guard(Plugin):
    def request(self, exchange):
        exchange.headers.remove("x-user")
        return CONTINUE

    def response(self, exchange):
        exchange.response.headers.remove("x-inner")
        if exchange.path.endswith("/whole"):
            exchange.collect_response(lambda exchange, body: body.upper())
        return CONTINUE
"""


@pytest.fixture(scope="module")
def exact_port() -> int:
    """Of a server that keeps the case of header names."""
    return free_port()


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, exact_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pingap]:
    code = Path(tmp_path_factory.mktemp("plugins"))
    (code / "splitter.py").write_text(SPLITTER)
    (code / "guard.py").write_text(GUARD)
    more = f"""
[locations.rewritten]
upstream = "origin"
path = "~^/rewritten/(?<rest>.*)$"
rewrite = "^/rewritten/(.*)$ /to/$1"
[locations.via]
upstream = "origin"
path = "/via"
proxy_add_headers = ["Via: 1.1 edge"]
[locations.small]
upstream = "origin"
path = "/small"
client_max_body_size = "10kb"
[locations.split]
upstream = "origin"
path = "/split"
plugins = ["splitter"]
[plugins.splitter]
category = "python"
path = "{code}/splitter.py"
[locations.guarded]
upstream = "origin"
path = "/guarded"
proxy_set_headers = ["X-Role:guest", "X-Admin:"]
plugins = ["guard"]
[plugins.guard]
category = "python"
path = "{code}/guard.py"
[locations.firmware]
upstream = "firmware"
path = "/firmware"
proxy_set_headers = ["X-API-key:1"]
plugins = ["guard"]
[upstreams.firmware]
addrs = ["127.0.0.1:{shared_origin.port}"]
preserve_header_case = true
[servers.exact]
addr = "127.0.0.1:{exact_port}"
locations = ["firmware", "all"]
preserve_header_case = true
"""
    text = site(
        [shared_origin.port],
        location="enable_reverse_proxy_headers = true",
        more=more,
        locations='["rewritten", "via", "small", "split", "guarded", "firmware", "all"]',
    )
    with Pingap(text, placement) as instance:
        yield instance


@pytest.fixture
def origin(shared_origin: Origin) -> Origin:
    shared_origin.requests.clear()
    shared_origin.strays.clear()
    return shared_origin


def one(proxy: Pingap, head: str, body: bytes = b"", method: str = "GET") -> Response:
    """The answer to one request on a connection of its own; lines end with a newline."""
    with proxy.client() as client:
        client.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)
        return client.response(method)


# -- methods and empty bodies ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["LIST", "RPC_IN_DATA", "M-SEARCH", "VERSION-CONTROL", "get"])
def test_any_token_is_a_method_and_its_body_is_passed_on(proxy: Pingap, origin: Origin, method: str) -> None:
    assert one(proxy, f"{method} /any-method HTTP/1.1\nHost: a\nContent-Length: 5\n", b"hello").status == 200
    request = origin.wait("/any-method")
    assert (request.method, request.body) == (method, b"hello")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PROPFIND", "LIST"])
def test_an_empty_body_reaches_the_origin_as_one_and_none_as_none(proxy: Pingap, origin: Origin, method: str) -> None:
    assert one(proxy, f"{method} /empty HTTP/1.1\nHost: a\nContent-Length: 0\n").status == 200
    assert origin.wait("/empty").get("content-length") == "0"
    assert one(proxy, f"{method} /none HTTP/1.1\nHost: a\n").status == 200
    assert origin.wait("/none").get("content-length") is None
    chunked = f"{method} /chunks HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n"
    assert one(proxy, chunked, b"0\r\n\r\n").status == 200
    assert origin.wait("/chunks").get("content-length") == "0"


# -- header names as they are written (RFC 9110 section 5.1) -------------------------------------


def names_of(head: bytes) -> list[str]:
    return [line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:] if line]


@pytest.mark.parametrize("whole", ["", "/whole"])
def test_header_names_keep_their_case_for_those_who_want_it(proxy: Pingap, origin: Origin, exact_port: int, whole: str) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nX-INNER: 1\r\nETAG: 2\r\nx-lower: 3\r\nX-MiXed: 4\r\nCONTENT-length: 2\r\n\r\nok")

    sent = "HOST: a\nX-USER: 1\nx-lower: 2\nX-MiXed: 3\nx-api-KEY: 4\n"
    for first in ("/firmware", "/plain"):
        path = first + whole
        origin.on[path] = answer
        for port, number in ((proxy.port, 1), (exact_port, 2)):
            with Client(port) as client:
                client.send(f"GET {path} HTTP/1.1\n{sent}\n".replace("\n", "\r\n").encode())
                answered = names_of(client.response().head)
            asked = names_of(origin.wait(path, number).head)
            inner = [] if first == "/firmware" else ["X-INNER"]
            kept = [*inner, "ETAG", "x-lower", "X-MiXed", "Date", "CONTENT-length"]
            assert answered == (kept if port == exact_port else [name.lower() for name in kept])
            if first == "/firmware":
                assert asked == ["HOST", "x-lower", "X-MiXed", "X-API-key"]
            else:
                assert asked[:5] == ["host", "x-user", "x-lower", "x-mixed", "x-api-key"]


# -- request targets (RFC 9112 section 3.2) -------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_authority_of_an_absolute_target_takes_the_place_of_host(proxy: Pingap, origin: Origin, version: str) -> None:
    assert one(proxy, f"GET http://Real.example:81/absolute?q HTTP/{version}\nHost: other.example\n").status == 200
    request = origin.wait("/absolute")
    assert (request.target, request.get("host")) == ("/absolute?q", "real.example:81")
    assert request.get("x-forwarded-host") == "real.example"


@pytest.mark.parametrize("target", ["a:443", "/a", "*"])
def test_connect_is_not_implemented(proxy: Pingap, origin: Origin, target: str) -> None:
    with proxy.client() as client:
        client.send(f"CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.response().status == 501
        assert client.is_closed()
    assert not origin.requests


@pytest.mark.parametrize("target", ["*", "http://whole.example"])
@pytest.mark.parametrize("body", [b"", b"hello"])
def test_options_of_the_whole_server_is_answered_by_pingap(proxy: Pingap, origin: Origin, target: str, body: bytes) -> None:
    with proxy.client() as client:
        client.request(target, "OPTIONS", body=body or None)
        response = client.response("OPTIONS")
        assert (response.status, response.body, response.get("content-length")) == (200, b"", "0")
        assert client.get("/after").body == b"/after"
    assert [exchange.path for exchange in origin.requests] == ["/after"]


def test_options_of_a_path_goes_to_the_backend(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        assert client.get("/of-a-path", "OPTIONS").body == b"/of-a-path"
    assert origin.wait("/of-a-path").method == "OPTIONS"


def test_max_forwards_is_counted_down_and_ends_here(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        assert client.get("/last", "OPTIONS", {"Max-Forwards": "0"}).get("content-length") == "0"
        assert client.get("/passed", "OPTIONS", {"Max-Forwards": "1"}).body == b"/passed"
        assert client.get("/other", "GET", {"Max-Forwards": "0"}).body == b"/other"
    assert not origin.seen("/last")
    assert origin.wait("/passed").get("max-forwards") == "0"
    assert origin.wait("/other").get("max-forwards") == "0"


def test_trace_is_refused_so_that_nobody_sees_what_we_tell_backends(proxy: Pingap, origin: Origin) -> None:
    assert one(proxy, "TRACE /trace HTTP/1.1\nHost: a\nCookie: secret\n").status == 501
    assert not origin.requests


@pytest.mark.parametrize("rest", ["a%0D%0AX-Split:%20yes", "a%20HTTP/1.1", "%C3%A4", "a?b=%0d%0a", "a%00b"])
def test_what_is_encoded_in_a_target_stays_so_through_a_rewrite(proxy: Pingap, origin: Origin, rest: str) -> None:
    assert proxy.get(f"/rewritten/{rest}").status == 200
    (request,) = origin.requests
    assert request.target == f"/to/{rest}"
    assert request.get("x-split") is None


# -- what is added and what is not (RFC 9110 sections 6.6.1, 7.6) ----------------------------


def test_every_answer_has_exactly_one_date(proxy: Pingap, origin: Origin) -> None:
    def dated(exchange: Exchange) -> None:
        exchange.reply(headers="Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")

    origin.on["/dated"] = dated
    assert proxy.get("/dated").get("date") == "Sun, 06 Nov 1994 08:49:37 GMT"
    for response in (proxy.get("/undated"), one(proxy, "GET / HTTP/1.1\n"), one(proxy, "OPTIONS * HTTP/1.1\nHost: a\n")):
        date = response.get("date")
        assert date is not None
        assert parsedate_to_datetime(date).year > 2000


def test_via_and_server_are_left_as_they_are(proxy: Pingap, origin: Origin) -> None:
    """docs/decisions/0006-via.md says why."""
    origin.on["/named"] = lambda exchange: exchange.reply(headers="Server: theirs\r\nVia: 1.1 theirs\r\n")
    response = proxy.get("/named", headers={"Via": "1.0 before"})
    assert (response.get("server"), response.get("via")) == ("theirs", "1.1 theirs")
    assert origin.wait("/named").all("via") == ["1.0 before"]
    assert proxy.get("/unnamed").get("server") is None
    assert origin.wait("/unnamed").all("via") == []


def test_via_can_be_had_and_comes_behind_the_others(proxy: Pingap, origin: Origin) -> None:
    assert proxy.get("/via", headers={"Via": "1.0 before"}).status == 200
    assert origin.wait("/via").all("via") == ["1.0 before", "1.1 edge"]


@pytest.mark.parametrize("byte", [13, 10, 0, 127, 1])
@pytest.mark.parametrize("where", ["reply", "request", "target", "response"])
def test_a_plugin_cannot_write_what_would_end_a_line(proxy: Pingap, origin: Origin, where: str, byte: int) -> None:
    with proxy.client() as client:
        response = client.get(f"/split/{where}?byte={byte}")
        assert response.status == 500
        assert response.get("x-pingap-etype") == "plugin_failed"
        assert response.get("x-split") is None
        assert client.get("/after").body == b"/after"
    assert all(exchange.get("x-split") is None for exchange in origin.requests)
    proxy.wait_output(r"splitter.*control characters|control characters.*splitter")


# -- interim answers and expectations (RFC 9110 sections 10.1.1, 15.2) -------------------------


def hinted(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: y\r\n\r\n")
    exchange.reply(b"final")


def test_interim_answers_are_passed_on_in_their_order(proxy: Pingap, origin: Origin) -> None:
    origin.on["/hints"] = hinted
    with proxy.client() as client:
        client.request("/hints")
        assert client.head().status == 102
        hint = client.head()
        assert (hint.status, hint.headers) == (103, [("link", "</a.css>")])
        assert client.response().body == b"final"


def test_a_client_of_1_0_gets_the_final_answer_only(proxy: Pingap, origin: Origin) -> None:
    origin.on["/hints"] = hinted
    with proxy.client() as client:
        client.send(b"GET /hints HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        response = client.response()
        assert (response.status, response.body, response.informational) == (200, b"final", [])
        assert client.get("/after").body == b"/after"


def test_a_100_of_the_backend_is_not_passed_on_a_second_time(proxy: Pingap, origin: Origin) -> None:
    def continued(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.reply(exchange.read_body())

    origin.on["/continued"] = continued
    with proxy.client() as client:
        client.send(b"POST /continued HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.head().status == 100
        client.send(b"hello")
        response = client.response()
        assert (response.body, response.informational) == (b"hello", [])
    assert origin.wait("/continued").get("expect") is None


def test_a_refusal_instead_of_100_ends_the_connection(proxy: Pingap, origin: Origin) -> None:
    """Nobody can tell whether the body comes after all (RFC 9110 section 10.1.1)."""
    with proxy.client() as client:
        client.send(b"POST /small HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        response = client.response()
        assert (response.status, response.informational, response.get("connection")) == (413, [], "close")
        with contextlib.suppress(ConnectionError):
            client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.is_closed()
    assert not origin.requests


@pytest.mark.parametrize("status", [401, 417, 302])
def test_an_answer_that_does_not_wait_for_the_body_leaves_no_doubt_where_that_ends(proxy: Pingap, origin: Origin, status: int) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
        exchange.close()

    origin.on["/refused"] = refuse
    with proxy.client() as client:
        client.send(b"POST /refused HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        response = client.response()
        assert (response.status, response.body) == (status, b"no")
        if response.get("connection") == "close":
            assert client.is_closed()
        else:
            client.send(b"x" * 1_000_000)
            assert client.get("/after").body == b"/after"


def test_a_client_that_does_not_wait_for_100_is_served_all_the_same(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        client.send(b"POST /eager HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        response = client.response()
        assert response.body == b"/eager"
        assert client.get("/after").body == b"/after"
    assert origin.wait("/eager").body == b"hello"


# -- framing (RFC 9112 section 6) ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "framing", "passed"),
    [
        ("POST", "", ("0", None)),
        ("POST", "Content-Length: 0\n", ("0", None)),
        ("PUT", "", ("0", None)),
        ("GET", "", (None, None)),
        ("GET", "Content-Length: 0\n", ("0", None)),
        ("GET", "Content-Length: 5\n", ("5", None)),
        ("DELETE", "Content-Length: 5\n", ("5", None)),
        ("POST", "Transfer-Encoding: chunked\n", ("5", None)),
    ],
)
def test_a_request_is_framed_anew(proxy: Pingap, origin: Origin, method: str, framing: str, passed: tuple[str | None, str | None]) -> None:
    body = b"" if not framing or " 0" in framing else b"hello"
    if "chunked" in framing:
        body = b'5;name=value;x="y;z"\r\nhello\r\n0;last\r\n\r\n'
    assert one(proxy, f"{method} /framed HTTP/1.1\nHost: a\n{framing}", body).status == 200
    request = origin.wait("/framed")
    assert (request.get("content-length"), request.get("transfer-encoding")) == passed
    assert request.body == (b"hello" if passed[0] == "5" else b"")


def test_extensions_of_chunks_are_dropped_both_ways(proxy: Pingap, origin: Origin) -> None:
    def extended(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n")
        go.wait(WITHIN)
        exchange.send(b"3;c\r\nand\r\n0;d\r\n\r\n")

    go = threading.Event()
    origin.on["/extended"] = extended
    with proxy.client() as client:
        client.send(b"POST /extended HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"2;a=b\r\nok\r\n0;c\r\n\r\n")
        response = client.head()
        assert response.get("transfer-encoding") == "chunked"
        go.set()
        wanted = b"2\r\nok\r\n3\r\nand\r\n0\r\n\r\n"
        assert client.exactly(len(wanted)) == wanted
    assert b";" not in bytes(origin.wait("/extended").raw)


@pytest.mark.parametrize("reads", [True, False])
def test_trailers_pass_both_ways_to_who_reads_them(proxy: Pingap, origin: Origin, reads: bool) -> None:
    def trailed(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n")
        exchange.send(b"0\r\nX-Sum: 1\r\nContent-Length: 7\r\nSet-Cookie: a\r\n\r\n")

    origin.on["/trailed"] = trailed
    te = "TE: trailers, gzip\r\nConnection: TE\r\n" if reads else ""
    with proxy.client() as client:
        client.send(f"POST /trailed HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n".encode())
        client.send(b"2\r\nok\r\n0\r\nX-Up: 2\r\nHost: evil\r\nTransfer-Encoding: x\r\n\r\n")
        response = client.response()
        assert (response.body, response.trailers) == (b"ok", [("x-sum", "1")] if reads else [])
        assert client.get("/after").body == b"/after"
    request = origin.wait("/trailed")
    assert request.trailers.lower() == b"x-up: 2\r\n"
    assert request.get("te") == ("trailers" if reads else None)
    assert request.get("connection") == ("te" if reads else None)


@pytest.mark.parametrize("other", [b"", b"X-Sum: 1\r\n"], ids=["alone", "with another"])
def test_a_trailer_that_connection_names_passes_as_little_as_a_header_line(proxy: Pingap, origin: Origin, other: bytes) -> None:
    def trailed(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\nX-Hop: 1\r\n\r\n2\r\nok\r\n")
        exchange.send(b"0\r\nX-Hop: 2\r\n%b\r\n" % other)

    origin.on["/hop"] = trailed
    with proxy.client() as client:
        client.send(b"POST /hop HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, X-Up\r\nX-Up: 1\r\n")
        client.send(b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Up: 2\r\n%b\r\n" % other)
        response = client.response()
        assert (response.body, response.get("x-hop")) == (b"ok", None)
        assert response.trailers == ([("x-sum", "1")] if other else [])
        assert client.get("/after").body == b"/after"
    request = origin.wait("/hop")
    assert (request.body, request.get("x-up"), request.trailers.lower()) == (b"ok", None, other.lower())


@pytest.mark.parametrize("path", ["/guarded", "/guarded/whole"])
def test_no_trailer_brings_back_what_a_plugin_has_removed(proxy: Pingap, origin: Origin, path: str) -> None:
    def trailed(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Inner: 1\r\n\r\n2\r\nok\r\n0\r\nX-Inner: 2\r\nX-Sum: 3\r\n\r\n")

    origin.on[path] = trailed
    with proxy.client() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        client.send(b"2\r\nok\r\n0\r\nX-User: root\r\nX-Role: root\r\nX-Admin: 1\r\n\r\n")
        response = client.response()
        assert response.body == (b"OK" if path.endswith("whole") else b"ok")
        assert (response.get("x-inner"), response.trailers) == (None, [("x-sum", "3")])
        assert client.get("/after").body == b"/after"
    assert origin.wait(path).trailers == b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["Content-Length: 1234\r\n", "Transfer-Encoding: chunked\r\n", ""])
def test_head_is_answered_with_a_head_alone(proxy: Pingap, origin: Origin, framing: str, version: str) -> None:
    def head(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 200 OK\r\n{framing}ETag: x\r\n\r\n".encode())

    origin.on["/head"] = head
    with proxy.client() as client:
        client.send(f"HEAD /head HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
        response = client.response("HEAD")
        assert response.get("content-length") == ("1234" if "1234" in framing else None)
        assert client.get("/after").body == b"/after"


@pytest.mark.parametrize("head", [b"204 No Content\r\n", b"304 Not Modified\r\nContent-Length: 99\r\n", b"304 Not Modified\r\n"])
def test_204_and_304_have_no_body_whatever_else_they_say(proxy: Pingap, origin: Origin, head: bytes) -> None:
    origin.on["/bodiless"] = lambda exchange: exchange.send(b"HTTP/1.1 " + head + b"\r\n")
    with proxy.client() as client:
        response = client.get("/bodiless")
        assert response.get("transfer-encoding") is None
        assert response.get("content-length") == ("99" if b"99" in head else None)
        assert client.get("/after").body == b"/after"


# -- connections (RFC 9112 section 9, RFC 9110 section 7.6.1) -------------------------------------


def test_what_connection_names_is_dropped_both_ways(proxy: Pingap, origin: Origin) -> None:
    def named(exchange: Exchange) -> None:
        exchange.reply(headers="Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Stays: 1\r\nUpgrade: h2c\r\n")

    origin.on["/named-lines"] = named
    sent = {"Connection": "X-Mine, close, Host", "X-Mine": "1", "X-Yours": "1", "Keep-Alive": "5", "Proxy-Connection": "x"}
    response = proxy.get("/named-lines", headers=sent)
    assert (response.get("x-hop"), response.get("keep-alive"), response.get("x-stays"), response.get("upgrade")) == (None, None, "1", None)
    assert response.get("connection") == "close"
    request = origin.wait("/named-lines")
    assert [request.get(name) for name in ("x-mine", "x-yours", "keep-alive", "proxy-connection", "connection")] == [
        None,
        "1",
        None,
        None,
        None,
    ]
    assert request.get("host") == "test.local"


def test_a_backend_that_closes_does_not_close_the_client(proxy: Pingap, origin: Origin) -> None:
    def closing(exchange: Exchange) -> None:
        exchange.reply(b"bye", headers="Connection: close\r\n")
        exchange.is_gone(WITHIN)
        exchange.close()

    origin.on["/closing"] = closing
    with proxy.client() as client:
        for _ in range(3):
            response = client.get("/closing")
            assert (response.body, response.get("connection")) == (b"bye", None)
    until(lambda: all(exchange.closing for exchange in origin.seen("/closing")), WITHIN, "and its connections are not used again")
    assert len({id(exchange.sock) for exchange in origin.seen("/closing")}) == 3


def test_errors_leave_the_connection_in_step(proxy: Pingap, origin: Origin) -> None:
    def rude(exchange: Exchange) -> None:
        exchange.sock.shutdown(socket.SHUT_RDWR)
        exchange.close()

    origin.on["/rude"] = rude
    with proxy.client() as client:
        for number in range(3):
            assert client.get("/rude").status == 502
            assert client.get(f"/fine/{number}", "POST", body=b"x" * 100_000).body == f"/fine/{number}".encode()


def test_pipelined_answers_keep_the_order_whatever_they_are(proxy: Pingap, origin: Origin) -> None:
    def rude(exchange: Exchange) -> None:
        exchange.close()

    origin.on["/rude"] = rude
    origin.on["/hints"] = hinted
    with proxy.client() as client:
        client.send(
            b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n"
            b"GET /rude HTTP/1.1\r\nHost: a\r\n\r\nPOST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /hints HTTP/1.1\r\nHost: a\r\n\r\nGET /7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        answers = [client.response(method) for method in ("GET", "OPTIONS", "HEAD", "GET", "POST", "GET", "GET")]
        assert [answer.status for answer in answers] == [200, 200, 200, 502, 200, 200, 200]
        assert [answer.body for answer in answers if answer.status == 200] == [b"/1", b"", b"", b"/5", b"final", b"/7"]
        assert client.is_closed(), "nothing is answered after close"
    assert not origin.seen("/never")


def test_a_chunked_answer_that_breaks_off_is_a_reset_for_1_0(proxy: Pingap, origin: Origin) -> None:
    """Such a client has only the end of the connection to tell by."""
    go = threading.Event()

    def broken(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        go.wait(WITHIN)
        exchange.close()

    origin.on["/breaks"] = broken
    with proxy.client() as client:
        client.send(b"GET /breaks HTTP/1.0\r\n\r\n")
        head = client.head()
        assert (head.get("content-length"), head.get("transfer-encoding"), head.get("connection")) == (None, None, "close")
        assert client.exactly(2) == b"ok"
        go.set()
        with pytest.raises(ConnectionResetError):
            client.sock.recv(100)


def test_a_proxy_with_a_name_sees_that_it_asks_itself() -> None:
    port = free_port()
    with Pingap(site([port], server='via = "edge"'), port=port) as proxy:
        answer = proxy.get("/")
        assert answer.status == 508
        assert proxy.get("/", headers={"Via": "1.1 edge"}).status == 508


def test_a_proxy_with_a_name_tells_it_to_the_backend(origin: Origin) -> None:
    with Pingap(site([origin.port], server='via = "edge"')) as proxy:
        proxy.get("/", headers={"Via": "1.0 before"})
        seen = [line for line in origin.requests[-1].head.split(b"\r\n") if line.startswith(b"via:")]
        assert seen == [b"via: 1.0 before", b"via: 1.1 edge"]
