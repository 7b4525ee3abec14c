"""What routing costs per request: µs of one REQUEST through the actor, with messages going nowhere.

Behind it, what upstream writes into the request of such a location as it leaves.

    python bench/routing.py [REPEATS]

The fastest of several rounds counts: this measures the code, not the machine's other work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import monotonic, perf_counter
from typing import Any

from msgspec.structs import replace

from pingap.config.addresses import parse_backend
from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import HostRule, Listen, PathRule, Rewrite
from pingap.stages.messages import Affinity, Peer, Request, Routed
from pingap.stages.routing.actor import RoutingActor
from pingap.stages.routing.core import Router
from pingap.stages.steps import finished
from pingap.stages.upstream.compiled import UpstreamCompiler
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.loop import Turns

PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 8080, "http", 17)
AFFINITY = Affinity(2, 3, 4)
HEADERS = (
    b"host: www.example.com\r\n"
    b"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"accept-language: en-US,en;q=0.5\r\n"
    b"accept-encoding: gzip, deflate, br, zstd\r\n"
    b"cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"upgrade-insecure-requests: 1\r\n"
    b"sec-fetch-dest: document\r\n"
    b"sec-fetch-mode: navigate\r\n"
)
ROUND = 20_000


def request(target: bytes, host: bytes = b"www.example.com") -> Request:
    """A browser's GET, as accept would send it."""
    headers = HEADERS.replace(b"www.example.com", host)
    return Request((1 << 32) + 1, 1, AFFINITY, "s", PEER, b"GET", target, 11, host, headers, 0, b"", True, 0.0, b""
    )  # fmt: skip


class _Nowhere(FakeContext):
    """Counts what is sent and keeps none of it."""

    count_sent = 0

    def __init__(self) -> None:
        super().__init__("routing", 2)
        self.turns = Turns()

    @property
    def loop(self) -> Any:
        return self.turns

    def send(self, to: int, envelope: Any) -> None:
        self.count_sent += 1


def measure(name: str, locations: dict[str, Location], requests: Iterable[Request], repeats: int) -> float:
    """µs per request, the best of `repeats` rounds; prints a line."""
    snapshot = Snapshot(
        servers={"s": Server(addr=(Listen("127.0.0.1", 80),), locations=tuple(locations))},
        locations=locations,
        upstreams={"u": Upstream(addrs=(parse_backend("127.0.0.1:9000"),))},
    )
    context = _Nowhere()
    actor = RoutingActor(context)
    actor._generations.start()
    say_config(context, (1, snapshot, {}), oldest=1)
    while context.turns.take():  # thousands of locations are compiled in slices
        pass
    receive = actor.receivers()[Request]
    batch = list(requests)
    batch = (batch * (ROUND // len(batch) + 1))[:ROUND]
    best = 1e9
    for _ in range(repeats):
        context.count_sent = 0
        started = perf_counter()
        for message in batch:
            receive(message)
        best = min(best, perf_counter() - started)
        assert context.count_sent == ROUND
    print(f"{name:<58} {best / ROUND * 1e6:6.2f} µs {_leaving(snapshot, batch, repeats):6.2f} µs")
    return best / ROUND * 1e6


def _leaving(snapshot: Snapshot, batch: list[Request], repeats: int) -> float:
    """µs in upstream for what the location writes."""
    router = Router(snapshot, {})
    rules = finished(UpstreamCompiler().compile(snapshot, {})).rules
    routed = [outcome for outcome in (router.route(message, monotonic) for message in batch) if isinstance(outcome, Routed)]
    best = 1e9
    for _ in range(repeats):
        started = perf_counter()
        for message in routed:
            found = rules[message.location]
            if found.writes:
                found.leaving(message.headers, message, "127.0.0.1:9000")
        best = min(best, perf_counter() - started)
    return best / len(routed) * 1e6


def _prefixes(count: int, **more: Any) -> dict[str, Location]:
    return {f"l{n}": Location(upstream="u", path=PathRule("prefix", f"/{n:02}/"), **more) for n in range(count)}


def main(repeats: int) -> None:
    """All shapes."""
    empty = 0.0
    batch = [request(b"/")] * ROUND
    for _ in range(repeats):
        started = perf_counter()
        for _message in batch:
            monotonic()
        empty = perf_counter() - started
    print(f"(one look at the clock takes {empty / ROUND * 1e6:.2f} µs)")

    any_path = {"l": Location(upstream="u")}
    measure("1 location", any_path, [request(b"/index.html")], repeats)
    one = {"l": Location(upstream="u", path=PathRule("prefix", "/"), enable_reverse_proxy_headers=True)}
    measure("1 prefix location, reverse proxy headers", one, [request(b"/index.html")], repeats)
    forged = request(b"/index.html")
    forged = replace(forged, headers=forged.headers + b"x-forwarded-for: 10.0.0.1\r\n")
    measure("  the same, forged X-Forwarded-For", one, [forged], repeats)

    ten = _prefixes(10, enable_reverse_proxy_headers=True)
    measure("10 prefix locations, reverse proxy headers, first fits", ten, [request(b"/00/index.html")], repeats)
    measure("10 prefix locations, reverse proxy headers, last fits", ten, [request(b"/09/index.html")], repeats)

    hosts = {
        f"l{n}": Location(upstream="u", host=(HostRule("exact", f"h{n}.example.com"),), enable_reverse_proxy_headers=True)
        for n in range(5000)
    }
    asked = [request(b"/index.html", b"h%d.example.com" % n) for n in range(0, 5000, 7)]
    measure("5000 locations by host, 715 hosts asked", hosts, asked, repeats)
    every = [request(b"/index.html", b"h%d.example.com:8080" % n) for n in range(5000)]
    measure("5000 locations by host, all of them asked", hosts, every, repeats)

    regex = {"l": Location(upstream="u", path=PathRule("regex", r"^/users/(?P<id>\d+)"))}
    measure("1 regex path with a named capture", regex, [request(b"/users/123/orders?page=2")], repeats)
    rewritten = {
        "l": Location(upstream="u", path=PathRule("prefix", "/api/"), rewrite=Rewrite("^/api/(.*)$", "/$1")),
    }
    measure("1 prefix location with a rewrite", rewritten, [request(b"/api/orders?page=2")], repeats)
    rules = {
        "l": Location(
            upstream="u",
            proxy_set_headers=(("host", "$host"), ("x-real-ip", "$remote_addr"), ("x-scheme", "$scheme")),
            proxy_add_headers=(("x-gateway", "pingap"),),
        )
    }
    measure("1 location, three variables and a constant set", rules, [request(b"/index.html")], repeats)
    constant = {"l": Location(upstream="u", proxy_add_headers=(("x-gateway", "pingap"),))}
    measure("1 location, one constant header added", constant, [request(b"/index.html")], repeats)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
