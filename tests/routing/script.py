"""Words for the scripts of routing's tests."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pingap.config.model import Basic, Location, Server, Snapshot, Upstream
from pingap.config.parts import Listen
from pingap.config.values import PARSERS
from pingap.stages.messages import Affinity, Peer, Request, Routed
from pingap.stages.routing.core import Router
from pingap.stages.steps import finished
from pingap.stages.upstream.compiled import UpstreamCompiler

SID = (1 << 32) + 7
ACCEPT, ROUTING, PLUGINS, UPSTREAM = 1, 2, 3, 4
PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 8080, "http", 17)

_FORMS = {
    "path": "path",
    "host": "host_list",
    "rewrite": "rewrite",
    "match_headers": "header_condition",
    "match_query": "condition",
    "match_cookies": "condition",
    "proxy_set_headers": "header",
    "proxy_add_headers": "header",
}


def location(**keys: Any) -> Location:
    """A location with its keys written as the file has them."""
    for key, form in _FORMS.items():
        if key in keys:
            parse = PARSERS[form]
            value = keys[key]
            keys[key] = tuple(parse(entry) for entry in value) if isinstance(value, list) else parse(value)
    keys.setdefault("upstream", "u")
    return Location(**keys)


def snapshot(
    basic: Basic | None = None, metrics: str | None = None, upstreams: tuple[str, ...] = ("u",), **locations: Location
) -> Snapshot:
    """One server `s` with these locations, in this order."""
    return site(locations, basic, metrics, upstreams)


def site(
    locations: dict[str, Location], basic: Basic | None = None, metrics: str | None = None, upstreams: tuple[str, ...] = ("u",)
) -> Snapshot:
    """The same for who has them in a table."""
    backend = PARSERS["backend"]("127.0.0.1:9000")
    return Snapshot(
        basic=basic or Basic(),
        servers={"s": Server(addr=(Listen("127.0.0.1", 80),), locations=tuple(locations), prometheus_metrics=metrics)},
        locations=locations,
        upstreams={name: Upstream(addrs=(backend,)) for name in upstreams},
    )


def request(target: str = "/", host: str = "example.com", headers: str = "", **more: Any) -> Request:
    """A GET as accept sends it. `headers`: `name: value` lines, split by newlines, after Host."""
    lines = [f"host: {host}"] if host else []
    lines += [line.lstrip() for line in headers.splitlines() if line.strip()]
    block = "".join(line + "\r\n" for line in lines).encode("latin-1")
    affinity = Affinity(ROUTING, PLUGINS, UPSTREAM)
    plain = Request(SID, 1, affinity, "s", PEER, b"GET", target.encode(), 11, host.encode(), block, 0, b"", True, 0.5, b"")
    return replace(plain, **more)


def leaving(routed: Routed, site: Snapshot, address: str = "10.0.0.5:80") -> list[str]:
    """The header lines with which a request leaves for the backend at `address`."""
    return lines(finished(UpstreamCompiler().compile(site, {})).rules[routed.location].leaving(routed.headers, routed, address))


def left(made: Snapshot, message: Request, address: str = "10.0.0.5:80") -> Routed:
    """The request as it leaves, when no plugin has been in between."""
    outcome = Router(made, {}).route(message, lambda: 1.0)
    assert isinstance(outcome, Routed)
    assert outcome.headers == message.headers, "before it leaves a request says what the client said"
    return replace(outcome, headers="".join(line + "\r\n" for line in leaving(outcome, made, address)).encode("latin-1"))


def lines(block: bytes) -> list[str]:
    """The lines of a header block."""
    assert not block or block.endswith(b"\r\n")
    return block.decode("latin-1").split("\r\n")[:-1]
