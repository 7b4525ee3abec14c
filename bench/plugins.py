"""What the plugins stage costs per request: µs of one ROUTED, and of one RESPONSE, with messages going nowhere.

    python bench/plugins.py [ROUNDS]

The fastest of several rounds counts: this measures the code, not the machine's other work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from pingap.config.model import Location, Server, Snapshot
from pingap.config.parts import Listen
from pingap.stages.coding.rules import CodingRules
from pingap.stages.itinerary import REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.messages import Affinity, Peer, Report, Response, Routed
from pingap.stages.plugins.actor import PluginsActor
from pingap.stages.plugins.checking import plans
from pingap.stages.upstream.coded import CodedAnswer
from tests.kit.context import FakeContext
from tests.kit.generations import say_config

PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 8080, "http", 17)
HEADERS = (
    b"host: www.example.com\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\naccept-encoding: gzip, deflate\r\n"
    b"authorization: Basic cGluZ2FwOjEyMzEyMw==\r\n"
)
BODY = b'{"name":"pingap","value":1}' * 4
ITEMS = [{"id": i, "name": f"item {i}", "price": i * 7 % 1000 / 10, "tags": ["a", "b", str(i)]} for i in range(140)]
LONG = json.dumps(ITEMS, indent=1)[:10240].encode()
ROUND = 5_000
TURN = 50
"""Messages in one turn of the loop: a user's hooks share the time of one."""

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "request_id": {"p": {"category": "request_id"}},
    "ping, not hit": {"p": {"category": "ping", "path": "/ping"}},
    "basic_auth": {"p": {"category": "basic_auth", "authorizations": ["cGluZ2FwOjEyMzEyMw=="]}},
    "limit": {"p": {"category": "limit", "max": 1_000_000_000}},
    "response_headers": {"p": {"category": "response_headers", "set_headers": ["X-Frame-Options: DENY"]}},
    "compression, 108 bytes": {"p": {"category": "compression", "gzip_level": 6}},
    "compression, 10 KB": {"p": {"category": "compression", "gzip_level": 6}},
}


HOOKS = {
    "request": "        exchange.headers['x-length'] = str(len(exchange.path))",
    "response": "        exchange.response.headers['x-seen'] = exchange.path",
}
"""Of a user's plugin: one header added to the request, one to the answer."""

SCRIPTS: dict[str, list[str]] = {
    "a user's, request": ["request"],
    "a user's, response": ["response"],
    "a user's, both": ["request", "response"],
}


def script(path: Path, steps: list[str]) -> dict[str, dict[str, Any]]:
    """The section of a user's plugin with these hooks, written to `path`."""
    hooks = [f"    def {step}(self, exchange):\n{HOOKS[step]}\n        return CONTINUE\n" for step in steps]
    path.write_text("from pingap.plugin import CONTINUE, Plugin\n\n\nclass Lengths(Plugin):\n" + "\n".join(hooks))
    return {"p": {"category": "python", "path": str(path)}}


class Here(FakeContext):
    """As in one process: what is sent is handed over as it is."""

    def send(self, to: int, envelope: Any) -> None:
        self.sent.append((to, envelope))


async def case(plugins: dict[str, dict[str, Any]], rounds: int, body: bytes) -> tuple[float, float]:
    """Best µs of a request and of a response; 0 when the response does not come here."""
    context = Here("plugins", 3)
    actor = PluginsActor(context)
    await actor.start()
    snapshot = Snapshot(
        servers={"s": Server(addr=(Listen("127.0.0.1", 80),), locations=("l",))},
        locations={"l": Location(upstream="u", plugins=tuple(plugins))},
        plugins=plugins,
    )
    plan = plans(snapshot)
    if plan["l"] & RESPONSE_CODING:  # what it costs here, where it is one of several
        plan["l"] = REQUEST_PLUGINS | RESPONSE_PLUGINS
    say_config(context, (1, snapshot, plan), oldest=1)
    receivers = actor.receivers()
    best = [1.0, 1.0]
    sids = range(1 << 32, (1 << 32) + ROUND)
    # fmt: off
    requests = [Routed(sid, 1, Affinity(2, 3, 4), "s", PEER, b"GET", b"/api", 11, b"www.example.com", HEADERS, 0, b"", True,
                       0.5, b"", "192.0.2.7", "l", "u", plan["l"], {}, (1.0, 2.0), b"", ()) for sid in sids]
    report = Report("l", "u", "127.0.0.1:9000", 200, True, 1, (1.0,) * 8, (), "", {}, "192.0.2.7")
    block = b"content-type: application/json\r\nserver: nginx\r\n"
    responses = [Response(sid, 4, 200, block, len(body), body, True, report, ()) for sid in sids]
    # fmt: on
    by_kind: list[tuple[type, list[Any]]] = [(Routed, requests), (Response, responses)]
    has_response = bool(plan["l"] & RESPONSE_PLUGINS)
    for _ in range(rounds):
        seconds = [0.0, 0.0]
        for first in range(0, ROUND, TURN):
            for number, (kind, messages) in enumerate(by_kind[: 1 + has_response]):
                receive, turn = receivers[kind], messages[first : first + TURN]
                context.sent.clear()
                began = perf_counter()
                for message in turn:
                    receive(message)
                seconds[number] += perf_counter() - began
                await asyncio.sleep(0)
                while len(context.sent) < len(turn):  # the machine was busy, and with it the hooks' time of that turn over
                    await asyncio.sleep(0.001)
        best = [min(now / ROUND, before) for now, before in zip(seconds, best, strict=True)]
    await actor.stop()
    return best[0] * 1e6, best[1] * 1e6 if has_response else 0.0


def in_upstream(rounds: int) -> tuple[float, float]:
    """Best µs of what upstream does in place of this stage, when compression is all that a location has: (deciding, coding)."""
    rules = CodingRules({"gzip_level": 6})
    block = b'content-type: application/json\r\nserver: nginx\r\netag: "6a0d-2800"\r\naccept-ranges: bytes\r\n'
    best = [1.0, 1.0]
    for _ in range(rounds):
        began = perf_counter()
        for _ in range(ROUND):
            rules.decide(False, HEADERS, 200, block, len(LONG))
        between = perf_counter()
        for _ in range(ROUND):
            coded = CodedAnswer("gzip", 6, block, block)
            coded.download(LONG, True)
            coded.figures  # noqa: B018
        best = [min(best[0], (between - began) / ROUND), min(best[1], (perf_counter() - between) / ROUND)]
    return best[0] * 1e6, best[1] * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    decided, coded = in_upstream(rounds)
    print(f"{'compression alone, 10 KB':24} in upstream: deciding {decided:5.2f}   coding {coded:5.2f}")
    with tempfile.TemporaryDirectory() as folder:
        written = {name: script(Path(folder, f"p{number}.py"), steps) for number, (name, steps) in enumerate(SCRIPTS.items())}
        for name, plugins in (CASES | written).items():
            request, response = asyncio.run(case(plugins, rounds, LONG if "KB" in name else BODY))
            print(f"{name:24} request {request:5.2f}" + (f"   response {response:5.2f}" if response else ""))


if __name__ == "__main__":
    main()
