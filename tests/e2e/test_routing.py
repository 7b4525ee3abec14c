"""Which location answers, and what the backend gets to see, through the whole of the proxy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from tests.conformance.peer import Peer
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.http2.wire import headers as fields
from tests.kit.waiting import until

LOCATIONS = {
    "exact": 'path = "= /exact"',
    "prefix": 'path = "/api"\nrewrite = "^/api/(?P<rest>.*)$ /v2/$rest"',
    "regex": 'path = "~ ^/user/(?<id>[0-9]+)$"\nproxy_set_headers = ["X-User::id"]',
    "host": 'host = "one.example, *.two.example"',
    "named": 'host = "~^(?P<tenant>[a-z]+)[.]saas[.]example$"\nproxy_set_headers = ["X-Tenant::tenant"]',
    "beta": 'match_headers = ["X-Beta:yes"]\npath = "/beta"',
    "query": 'match_query = ["debug"]\npath = "/beta"\nweight = 100',
    "cookie": 'match_cookies = ["group:b"]\npath = "/beta"\nweight = 90',
    "heavy": 'path = "/exact"\nweight = 1',
    "headers": 'path = "/forwarded"\nenable_reverse_proxy_headers = true\nproxy_add_headers = ["X-Tag:one", "X-Tag:$host"]',
    "few": 'path = "/few"\nmax_processing = 1',
}

SERVER = 'enabled_h2 = true\nnormalize_path = "match"\naccess_log = "{dir}/access.log {proto} {uri} {status}"'


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    more = "".join(
        f'[locations.{name}]\nupstream = "origin"\n{lines}\n'
        + ("" if "proxy_set_headers" in lines else f'proxy_set_headers = ["X-Location:{name}"]\n')
        for name, lines in LOCATIONS.items()
    )
    names = json.dumps(list(LOCATIONS))
    text = site([shared_origin.port], more=more, locations=names, basic='trusted_proxies = ["127.0.0.2/32"]', server=SERVER)
    with Pingap(text, placement) as instance:
        yield instance


def reached(proxy: Pingap, origin: Origin, target: str, host: str = "other.example", **headers: str) -> Exchange | int:
    """The request as the origin saw it, or the status when the proxy answered it itself."""
    origin.requests.clear()
    with proxy.client() as client:
        client.request(target, headers={name.replace("_", "-"): value for name, value in headers.items()}, host=host)
        status = client.response().status
    return origin.requests[0] if origin.requests else status


@pytest.mark.parametrize(
    ("target", "host", "headers", "location"),
    [
        ("/exact", "other.example", {}, "exact"),
        ("/exact?q=1", "other.example", {}, "exact"),
        ("/exact/more", "other.example", {}, "heavy"),
        ("/anything", "one.example", {}, "host"),
        ("/anything", "ONE.example:8080", {}, "host"),
        ("/anything", "a.b.two.example", {}, "host"),
        ("/anything", "two.example", {}, None),
        ("/beta", "other.example", {"X-Beta": "yes"}, "beta"),
        ("/beta?debug=1", "other.example", {}, "query"),
        ("/beta", "other.example", {"Cookie": "a=1; group=b"}, "cookie"),
        ("/beta", "other.example", {}, None),
        ("/user/abc", "other.example", {}, None),
    ],
)
def test_the_heaviest_location_that_matches_answers(
    proxy: Pingap, shared_origin: Origin, target: str, host: str, headers: dict[str, str], location: str | None
) -> None:
    seen = reached(proxy, shared_origin, target, host, **headers)
    if location is None:
        assert seen == 404
    else:
        assert isinstance(seen, Exchange)
        assert seen.get("x-location") == location


EVASIONS = [("//exact", "exact"), ("/%65xact?a//b", "exact"), ("/x/../exact", "exact"), ("/exact;x", "exact"), ("//exact/%6d", "heavy")]


@pytest.mark.parametrize(("target", "location"), EVASIONS)
def test_other_spellings_of_a_path_reach_its_location_and_the_backend_gets_what_was_sent(
    proxy: Pingap, shared_origin: Origin, target: str, location: str
) -> None:
    seen = reached(proxy, shared_origin, target)
    assert isinstance(seen, Exchange)
    assert (seen.target, seen.get("x-location")) == (target, location)
    log = proxy.dir / "access.log"
    until(lambda: log.exists() and f"HTTP/1.1 {target} 200\n" in log.read_text(), 5, "the line of what was sent")
    shared_origin.requests.clear()
    with Peer(proxy.port) as peer:
        peer.send(fields(1, ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", target.encode())), ended=True))
        assert peer.answer(1, 10).status == 200
        peer.send(fields(3, ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a:99999"), (b":path", b"/exact")), ended=True))
        assert peer.answer(3, 10).status == 400
    assert [(seen.target, seen.get("x-location")) for seen in shared_origin.requests] == [(target, location)]


def test_what_has_no_normal_form_and_a_port_that_cannot_be_are_refused(proxy: Pingap, shared_origin: Origin) -> None:
    assert reached(proxy, shared_origin, "/x/..;/exact") == 400
    assert reached(proxy, shared_origin, "/exact", "a:99999") == 400


def test_a_rewrite_uses_the_captures_and_keeps_the_query(proxy: Pingap, shared_origin: Origin) -> None:
    seen = reached(proxy, shared_origin, "/api/users/7?full=1")
    assert isinstance(seen, Exchange)
    assert seen.target == "/v2/users/7?full=1"


def test_captures_of_path_and_host_fill_headers(proxy: Pingap, shared_origin: Origin) -> None:
    by_path = reached(proxy, shared_origin, "/user/42")
    by_host = reached(proxy, shared_origin, "/x", "acme.saas.example")
    assert isinstance(by_path, Exchange)
    assert isinstance(by_host, Exchange)
    assert (by_path.get("x-user"), by_host.get("x-tenant")) == ("42", "acme")


def test_forwarded_headers_of_a_stranger_are_overwritten(proxy: Pingap, shared_origin: Origin) -> None:
    forged = {"X_Forwarded_For": "6.6.6.6", "X_Real_IP": "6.6.6.6", "X_Forwarded_Proto": "https", "X_Forwarded_Host": "evil"}
    seen = reached(proxy, shared_origin, "/forwarded", "a.example:99", **forged)
    assert isinstance(seen, Exchange)
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-real-ip") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert seen.get("x-forwarded-host") == "a.example"
    assert seen.get("x-forwarded-port") == str(proxy.port)
    assert seen.all("x-tag") == ["one", "a.example"]


def test_more_requests_at_once_than_max_processing_are_turned_away(proxy: Pingap, shared_origin: Origin) -> None:
    let_go = threading.Event()

    def held(exchange: Exchange) -> None:
        let_go.wait(10)
        exchange.reply(b"ok")

    shared_origin.on["/few"] = held
    shared_origin.requests.clear()
    with proxy.client() as first:
        first.request("/few")
        shared_origin.wait("/few")
        assert proxy.get("/few").status == 429
        let_go.set()
        assert first.response().status == 200
    for _ in range(5):
        assert proxy.get("/few").status == 200, "the place is free again"
    with proxy.client() as leaver:
        let_go.clear()
        leaver.request("/few")
        shared_origin.wait("/few", 7)
    let_go.set()
    with proxy.client() as client:
        statuses = [client.get("/few").status for _ in range(20)]
    assert statuses[-1] == 200, "who left has given its place back"
