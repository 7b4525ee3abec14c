"""The built-in plugins, through the whole of the proxy, configured as pingap's own documentation has it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator

import brotli
import pytest
import zstandard

from tests.e2e.client import Response
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

TEXT = b"all work and no play makes Jack a dull boy. " * 400

PLUGINS = {
    "ping": 'category = "ping"\npath = "/ping"',
    "mock": 'category = "mock"\npath = "/mock"\nstatus = 418\nheaders = ["X-Pot:tea"]\ndata = "short and stout"',
    "redirect": 'category = "redirect"\nprefix = "/moved"\nhttp_to_https = false',
    "request_id": 'category = "request_id"\nalgorithm = "nanoid"\nsize = 10',
    "headers": 'category = "response_headers"\nadd_headers = ["X-Added:1"]\nremove_headers = ["X-Secret"]\nset_headers = ["X-Set:new"]',
    "basic": f'category = "basic_auth"\nauthorizations = ["{base64.b64encode(b"ann:pw").decode()}"]\nhide_credentials = true',
    "key": 'category = "key_auth"\nheader = "X-Key"\nkeys = ["sesame"]\nhide_credentials = true',
    "deny": 'category = "ip_restriction"\ntype = "deny"\nip_list = ["127.0.0.0/8"]\nmessage = "not you"',
    "allow": 'category = "ip_restriction"\ntype = "allow"\nip_list = ["127.0.0.1"]',
    "rate": 'category = "limit"\ntype = "rate"\ntag = "ip"\nmax = 5\ninterval = "1h"\nweight = 100',
    "inflight": 'category = "limit"\ntype = "inflight"\ntag = "header"\nkey = "X-Who"\nmax = 1',
    "gzip": 'category = "compression"\ngzip_level = 6\nbr_level = 6\nzstd_level = 3\nmode = "upstream"\nmin_length = 100',
    "sub": """category = "sub_filter"\npath = "/sub"\nfilters = ["sub_filter 'Jack' 'Jill' g", "subs_filter 'd.ll' 'bright' g"]""",
    "chain1": 'category = "response_headers"\nset_headers = ["X-Order:first"]',
    "chain2": 'category = "response_headers"\nset_headers = ["X-Order:second"]',
}

CHAINS = {name: [name] for name in PLUGINS if not name.startswith("chain")}
CHAINS |= {"chain": ["chain1", "chain2"], "authchain": ["basic", "mock"], "builtin": ["pingap:requestId", "pingap:compression"]}
CHAINS |= {"alone": ["pingap:compression"], "beside": ["headers", "pingap:compression"]}


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    more = "".join(f"[plugins.{name}]\n{lines}\n" for name, lines in PLUGINS.items())
    more += "".join(
        f'[locations.{name}]\nupstream = "origin"\npath = "/{name}"\nplugins = {json.dumps(chain)}\n' for name, chain in CHAINS.items()
    )

    def text(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.reply(TEXT, headers='Content-Type: text/html\r\nX-Secret: s\r\nX-Set: old\r\nETag: "v1"\r\n')

    def apart(exchange: Exchange) -> None:
        """Head, then body, as servers of files do it."""
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(TEXT))
        exchange.send(TEXT)

    for path in ("/headers", "/gzip", "/sub", "/builtin", "/chain"):
        shared_origin.on[path] = text
    for path in ("/beside/apart", "/alone/apart"):
        shared_origin.on[path] = apart
    log = 'access_log = "{dir}/access.log {uri} {status} {:compression_ratio} {:compression_time}"'
    with Pingap(site([shared_origin.port], server=log, more=more, locations=json.dumps(["all", *CHAINS])), placement) as instance:
        yield instance


def reached(origin: Origin, path: str) -> Exchange:
    return origin.seen(path)[-1]


def test_ping_answers_without_a_backend(proxy: Pingap, shared_origin: Origin) -> None:
    assert (proxy.get("/ping").status, proxy.get("/ping").body) == (200, b"pong")
    assert not shared_origin.seen("/ping")
    assert proxy.get("/ping/other").body == b"/ping/other"


def test_mock_answers_as_told(proxy: Pingap) -> None:
    response = proxy.get("/mock")
    assert (response.status, response.get("x-pot"), response.body) == (418, "tea", b"short and stout")


def test_redirect_names_the_new_place(proxy: Pingap) -> None:
    response = proxy.get("/redirect?a=1", headers={})
    assert 300 <= response.status < 400
    assert (response.get("location") or "").endswith("/moved/redirect?a=1")


def test_a_request_id_reaches_the_backend_and_one_of_the_client_is_kept(proxy: Pingap, shared_origin: Origin) -> None:
    answer = proxy.get("/request_id")
    assert answer.status == 200
    first = reached(shared_origin, "/request_id").get("x-request-id")
    assert answer.get("x-request-id") == first
    assert first is not None
    assert len(first) == 10
    proxy.get("/request_id", headers={"X-Request-Id": "mine"})
    assert reached(shared_origin, "/request_id").get("x-request-id") == "mine"


def test_response_headers_are_added_set_and_removed(proxy: Pingap) -> None:
    response = proxy.get("/headers")
    assert (response.get("x-added"), response.get("x-set"), response.get("x-secret")) == ("1", "new", None)
    assert response.body == TEXT


def test_basic_auth_lets_in_who_knows_and_hides_the_credentials(proxy: Pingap, shared_origin: Origin) -> None:
    before = len(shared_origin.seen("/basic"))
    refused = proxy.get("/basic")
    assert refused.status == 401
    assert (refused.get("www-authenticate") or "").lower().startswith("basic")
    for wrong in ("Basic " + base64.b64encode(b"ann:nope").decode(), "Basic !!!", "Bearer x", "Basic"):
        assert proxy.get("/basic", headers={"Authorization": wrong}).status == 401
    assert len(shared_origin.seen("/basic")) == before, "nothing unauthorised reaches the backend"
    allowed = proxy.get("/basic", headers={"Authorization": "Basic " + base64.b64encode(b"ann:pw").decode()})
    assert allowed.status == 200
    assert reached(shared_origin, "/basic").get("authorization") is None


def test_authentication_also_holds_for_upgrades_and_bodies(proxy: Pingap, shared_origin: Origin) -> None:
    before = len(shared_origin.seen("/basic"))
    assert proxy.get("/basic", headers={"Connection": "Upgrade", "Upgrade": "websocket"}).status == 401
    with proxy.client() as client:
        client.send(b"POST /basic HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"a" * 500_000)
        assert client.response().status == 401
    assert len(shared_origin.seen("/basic")) == before


def test_key_auth_compares_and_hides_the_key(proxy: Pingap, shared_origin: Origin) -> None:
    assert proxy.get("/key").status in (401, 403)
    assert proxy.get("/key", headers={"X-Key": "sesam"}).status in (401, 403)
    assert proxy.get("/key", headers={"X-Key": "sesame"}).status == 200
    assert reached(shared_origin, "/key").get("x-key") is None


def test_addresses_are_denied_and_allowed(proxy: Pingap) -> None:
    denied = proxy.get("/deny", headers={"X-Forwarded-For": "8.8.8.8"})
    assert denied.status == 403
    assert b"not you" in denied.body
    assert proxy.get("/allow").status == 200


def test_a_rate_is_a_rate(proxy: Pingap) -> None:
    with proxy.client() as client:
        statuses = [client.get("/rate").status for _ in range(12)]
    assert statuses.count(200) == 5, statuses
    assert set(statuses[6:]) == {429}


def test_requests_in_flight_are_limited_by_their_key(proxy: Pingap, shared_origin: Origin) -> None:
    go = threading.Event()

    def held(exchange: Exchange) -> None:
        go.wait(10)
        exchange.reply(b"ok")

    shared_origin.on["/inflight"] = held
    with proxy.client() as first, proxy.client() as other:
        first.request("/inflight", headers={"X-Who": "ann"})
        shared_origin.wait("/inflight")
        assert proxy.get("/inflight", headers={"X-Who": "ann"}).status == 429
        other.request("/inflight", headers={"X-Who": "bob"})
        go.set()
        assert first.response().status == 200
        assert other.response().status == 200
    for _ in range(5):
        assert proxy.get("/inflight", headers={"X-Who": "ann"}).status == 200


def unpacked(response: Response) -> bytes:
    coding = response.get("content-encoding")
    if coding == "gzip":
        return gzip.decompress(response.body)
    if coding == "br":
        return bytes(brotli.decompress(response.body))
    if coding == "zstd":
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(response.body))
    assert coding is None
    return response.body


@pytest.mark.parametrize("path", ["/beside/apart", "/alone/apart"], ids=["plugins", "upstream"])
def test_a_short_answer_has_its_length_though_its_body_came_after_its_head(proxy: Pingap, path: str) -> None:
    """Whichever stage compresses it."""

    def whole() -> Response | None:
        """Unless the backend was stopped for 20 ms between the two, on a machine that does other things too."""
        answered = proxy.get(path, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(answered.body) == TEXT
        return answered if answered.get("content-length") else None

    response = until(whole, 5, "an answer in one piece")
    assert (response.get("content-length"), response.get("transfer-encoding")) == (str(len(response.body)), None)
    log = proxy.dir / "access.log"
    line = until(lambda: re.search(rf"^{path} 200 (\S+) (\S+)$", log.read_text(), re.MULTILINE), 5, "a line in the log")
    assert abs(float(line[1]) - len(TEXT) / len(response.body)) <= 0.1
    assert line[2] != "-"


@pytest.mark.parametrize("path", ["/gzip", "/builtin"])
@pytest.mark.parametrize(("accepted", "coding"), [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("identity", None), ("", None)])
def test_answers_are_compressed_as_the_client_accepts(proxy: Pingap, path: str, accepted: str, coding: str | None) -> None:
    with proxy.client() as client:
        for _ in range(2):
            response = client.get(path, headers={"Accept-Encoding": accepted} if accepted else {})
            assert response.get("content-encoding") == coding
            assert unpacked(response) == TEXT
            if coding:
                assert len(response.body) < len(TEXT) / 4
                assert "accept-encoding" in (response.get("vary") or "").lower()
                assert not (response.get("etag") or "").startswith('"'), "other bytes need another strong validator"


def test_what_is_small_encoded_or_a_stream_of_events_is_not_compressed(proxy: Pingap, shared_origin: Origin) -> None:
    shared_origin.on["/gzip/small"] = lambda exchange: exchange.reply(b"tiny", headers="Content-Type: text/html\r\n")
    packed = gzip.compress(TEXT)
    head = "Content-Type: text/html\r\nContent-Encoding: gzip\r\n"
    shared_origin.on["/gzip/done"] = lambda exchange: exchange.reply(packed, headers=head)
    assert proxy.get("/gzip/small", headers={"Accept-Encoding": "gzip"}).body == b"tiny"
    done = proxy.get("/gzip/done", headers={"Accept-Encoding": "gzip"})
    assert (done.all("content-encoding"), done.body) == (["gzip"], packed)

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        exchange.is_gone(10)
        exchange.close()

    shared_origin.on["/gzip/events"] = events
    with proxy.client() as client:
        client.request("/gzip/events", headers={"Accept-Encoding": "gzip"})
        assert client.head().get("content-encoding") is None
        seen = b""
        while b"data: 1\n\n" not in seen:
            seen += client.exactly(1)


def test_head_of_a_compressible_answer_has_no_body(proxy: Pingap) -> None:
    with proxy.client() as client:
        assert client.get("/gzip", method="HEAD", headers={"Accept-Encoding": "gzip"}).status == 200
        assert client.get("/gzip").body == TEXT


def test_a_large_answer_is_compressed_as_it_streams(proxy: Pingap, shared_origin: Origin) -> None:
    def large(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            exchange.send(b"%x\r\n%b\r\n" % (len(TEXT), TEXT))
        exchange.send(b"0\r\n\r\n")

    shared_origin.on["/gzip/large"] = large
    for _ in range(10):  # credit that is lost now and then stalls one of them
        response = proxy.get("/gzip/large", headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(response.body) == TEXT * 200


def test_text_is_replaced_in_the_body(proxy: Pingap) -> None:
    response = proxy.get("/sub")
    assert response.body == TEXT.replace(b"Jack", b"Jill").replace(b"dull", b"bright")
    assert response.get("content-length") in (None, str(len(response.body)))


def test_plugins_run_in_the_order_in_which_they_are_named(proxy: Pingap) -> None:
    assert proxy.get("/chain").get("x-order") == "second"
    assert proxy.get("/authchain").status == 401, "the first that answers ends the chain"


def test_the_built_in_request_id_is_a_uuid(proxy: Pingap, shared_origin: Origin) -> None:
    proxy.get("/builtin")
    given = reached(shared_origin, "/builtin").get("x-request-id") or ""
    assert re.fullmatch(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", given)


def test_a_limit_is_the_limit_however_many_replicas_there_are(shared_origin: Origin) -> None:
    more = "[plugins.rate]\n" + PLUGINS["rate"]
    text = site([shared_origin.port], location='plugins = ["rate"]', more=more)
    with Pingap(text, "split", up=["--scale", "plugins=3", "--scale", "accept=2"]) as proxy:
        statuses = [proxy.get("/shared").status for _ in range(30)]
        assert statuses.count(200) == 5, statuses


def test_a_delay_of_a_mock_holds_up_nobody_else(placement: str, shared_origin: Origin) -> None:
    more = '[plugins.late]\ncategory = "mock"\npath = "/late"\nstatus = 200\ndata = "late"\ndelay = "1s"'
    with Pingap(site([shared_origin.port], location='plugins = ["late"]', more=more), placement) as proxy, proxy.client() as client:
        began = time.monotonic()
        client.request("/late")
        assert proxy.get("/prompt").status == 200
        assert time.monotonic() - began < 0.7
        assert client.response().body == b"late"
        assert time.monotonic() - began >= 0.9
