"""Attacks on a cache through its front door: smuggled requests, confused hosts and targets, and what it says of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.e2e.cached_load import is_sealed, sealed
from tests.e2e.client import Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

PLUGIN = '[plugins.c]\ncategory = "cache"\n'


def told(exchange: Exchange) -> None:
    """A body that says whose it is."""
    exchange.read_body()
    exchange.reply(sealed(f"{exchange.get('host')} {exchange.target}", 500), headers="Cache-Control: max-age=600\r\n")


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    shared_origin.answer = told
    server = 'enable_server_timing = true\nprometheus_metrics = "/metrics"'
    text = site([shared_origin.port], server=server, location='plugins = ["c"]\nproxy_set_headers = ["Host:$host"]', more=PLUGIN)
    with Pingap(text, placement) as instance:
        yield instance


POISON = "GET /poison HTTP/1.1\r\nHost: evil.example\r\n\r\n"
GAMES = {
    "CL.TE": "Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{poison}",
    "TE.CL": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n{poison}\r\n0\r\n\r\n",
    "TE twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {size}\r\n\r\n0\r\n\r\n{poison}",
    "TE with a vertical tab": "Transfer-Encoding: \x0bchunked\r\nContent-Length: {size}\r\n\r\n0\r\n\r\n{poison}",
    "TE folded": "Transfer-Encoding:\r\n chunked\r\nContent-Length: {size}\r\n\r\n0\r\n\r\n{poison}",
    "space before the colon": "Transfer-Encoding : chunked\r\nContent-Length: {size}\r\n\r\n0\r\n\r\n{poison}",
    "two lengths": "Content-Length: 0\r\nContent-Length: {size}\r\n\r\n{poison}",
    "a list of lengths": "Content-Length: 0, {size}\r\n\r\n{poison}",
    "a signed length": "Content-Length: +{size}\r\n\r\n{poison}",
    "bare LF": "Content-Length: {size}\nX: y\r\n\r\n{poison}",
    "a length of GET": "Content-Length: {size}\r\n\r\n{poison}",
    "chunk with a bare CR": "Transfer-Encoding: chunked\r\n\r\n0\r\r\n\r\n{poison}",
}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_no_smuggled_request_gets_into_the_cache(proxy: Pingap, shared_origin: Origin, game: str, method: str) -> None:
    victim = f"/victim/{proxy.placement}/{method}/{game.replace(' ', '-')}"
    body = POISON.replace("/poison", victim)
    raw = f"{method} /front HTTP/1.1\r\nHost: test.local\r\n" + GAMES[game].format(size=len(body) + 5, poison=body)
    with proxy.client(timeout=2) as client:
        client.send(raw.encode("latin-1"))
        with contextlib.suppress(Closed, TimeoutError, OSError, ValueError, IndexError):
            for _ in range(2):
                client.response(method)
    for _ in range(2):
        answer = proxy.get(victim)
        assert is_sealed(answer.body, f"test.local {victim}"), answer.body[:80]
    assert all(exchange.get("host") == "test.local" for exchange in shared_origin.seen(victim)), "a smuggled request reached the origin"


def test_hosts_and_targets_in_all_spellings_are_those_that_the_origin_gets(proxy: Pingap) -> None:
    """What is answered from the cache is what the origin says of this very host and target."""
    spellings = [
        ("/x", "test.local"), ("/x", "TEST.local"), ("/x", f"test.local:{proxy.port}"), ("/x", "other.local"), ("/x?", "test.local"),
        ("/X", "test.local"), ("//x", "test.local"), ("/x%00", "test.local"), ("/y/..%2fx", "test.local"), ("/x;a", "test.local"),
    ]  # fmt: skip
    for _ in range(2):
        for target, host in spellings:
            with proxy.client() as client:
                client.request(target, host=host)
                answer = client.response()
            assert answer.status == 200
            said = answer.body.split(b"\n")[1].decode()
            seen_host, _, seen = said.partition(" ")
            assert seen == target
            assert seen_host.lower().partition(":")[0] == host.lower().partition(":")[0]
    with proxy.client() as client:  # the target names another host than Host does: the target counts (RFC 9112 section 3.2.2)
        client.send(b"GET http://third.local/x HTTP/1.1\r\nHost: test.local\r\n\r\n")
        answer = client.response()
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert is_sealed(answer.body, "third.local /x"), answer.body[:80]
    assert is_sealed(proxy.get("/x").body, "test.local /x")


def test_a_hit_and_a_miss_tell_their_times(proxy: Pingap) -> None:
    target = f"/timed/{proxy.placement}"
    first = proxy.get(target)
    assert "cache.lookup;dur=" in (first.get("server-timing") or "")
    until(lambda: proxy.get(target).get("x-cache-status") == "hit", 10, "it is stored")
    hit = proxy.get(target).get("server-timing") or ""
    assert "cache.lookup;dur=" in hit and "total;dur=" in hit and "upstream" not in hit, hit

    def counted() -> bool:
        page = proxy.get("/metrics").body.decode()
        told = [line for line in page.splitlines() if line.startswith('pingap_cache_lookup_time_count{server="plain"}')]
        counts = [line for line in page.splitlines() if line.startswith("pingap_plugins_cache_requests_total") and 'status="hit"' in line]
        return bool(told and float(told[0].split()[-1]) >= 3 and counts and float(counts[0].split()[-1]) >= 1)

    until(counted, 10, "metrics know of the cache")
