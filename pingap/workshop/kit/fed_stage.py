"""The plugins stage without processes, fed by hand: what goes in and out of it, message by message."""

from __future__ import annotations

import asyncio
import os
import sys
from secrets import token_hex
from typing import Any, Final, Self

from msgspec.structs import replace

from pingap.bus.members import READY, Members
from pingap.config.model import Basic, Location, Server, Snapshot, Upstream
from pingap.config.parts import Listen
from pingap.config.values import PARSERS
from pingap.stages.itinerary import REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.messages import Accepted, Affinity, Peer, Refused, Report, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.actor import PluginsActor
from pingap.workshop.kit.config_side import say_config
from pingap.workshop.kit.context import FakeContext

ACCEPT, ROUTING, PLUGINS, UPSTREAM, OTHER, CONFIG, FAR = 1, 2, 3, 4, 5, 6, 9
SID = (ACCEPT << 32) + 7
PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 8080, "http", 17)
STAGES = {ACCEPT: "accept", ROUTING: "routing", PLUGINS: "plugins", UPSTREAM: "upstream", OTHER: "plugins", CONFIG: "config", FAR: "accept"}
"""FAR: another accept actor than the one of SID."""

STARTING: Final = 10_000
"""Milliseconds, at least, that plugins may take to start."""

Sections = dict[str, dict[str, Any]]


def snapshot(plugins: Sections, upstream: str = "u", names: list[str] | None = None, template: str = "") -> Snapshot:
    """One location `l` with these plugins, in this order, besides the built-in ones of `names`."""
    listed = tuple(names if names is not None else plugins)
    location = Location(upstream=upstream, plugins=listed)
    return Snapshot(
        basic=Basic(error_template=template),
        servers={"s": Server(addr=(Listen("127.0.0.1", 80),), locations=("l",))},
        locations={"l": location},
        upstreams={"u": Upstream(addrs=(PARSERS["backend"]("127.0.0.1:9000"),))},
        plugins=plugins,
    )


def block(text: str) -> bytes:
    """`name: value` lines, split by newlines, as a header block."""
    return "".join(line.strip() + "\r\n" for line in text.splitlines() if line.strip()).encode("latin-1")


class FedStage:
    """A plugins actor that is fed by hand. Use as `async with FedStage(plugins) as stage`."""

    def __init__(self, plugins: Sections, upstream: str = "u", names: list[str] | None = None, actor: int = PLUGINS) -> None:
        self.context = FakeContext("plugins", actor)
        self.context.run_dir = f"/nonexistent-{token_hex(8)}/run"  # caches in memory are found by it
        self.members(ACCEPT, ROUTING, actor, UPSTREAM, CONFIG)
        self.actor = PluginsActor(self.context)
        self.generation = 0
        self.plan = 0
        self._first = (plugins, upstream, names)

    async def __aenter__(self) -> Self:
        await self.actor.start()
        self.load(*self._first)
        for _ in range(STARTING):
            if answers := self.answers_to_config():
                break
            await asyncio.sleep(0.001)  # the `start` of a plugin may await
        else:
            raise AssertionError("plugins do not start")
        if any(answers):
            raise AssertionError(answers)
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.actor.stop()
        for _ in range(3):
            await asyncio.sleep(0)
        if "pingap.stages.plugins.cache.store.places" in sys.modules:  # else no cache has been opened
            from pingap.stages.plugins.cache.store.memory_place import remove_memory

            remove_memory(os.path.dirname(self.context.run_dir))

    def members(self, *ids: int) -> None:
        """A new table; what it no longer names is gone."""
        gone = frozenset(self.context.members.by_id) - frozenset(ids)
        seq = self.context.members.seq + 1
        self.context.members = Members.of(seq, 99, [(i, STAGES[i], i, "", READY) for i in ids])
        if hasattr(self, "actor"):
            self.actor.members_changed(self.context.members, gone)

    def load(self, plugins: Sections, upstream: str = "u", names: list[str] | None = None) -> None:
        """One more generation, committed at once, as config would do it."""
        self.take(snapshot(plugins, upstream, names))

    def take(self, made: Snapshot) -> None:
        """The same of a configuration whose location is called `l`."""
        plans = checking.plans(made, trusts=True)
        self.plan = plans["l"]
        if self.plan & RESPONSE_CODING:  # which upstream would do, by the same rules (tests/test_coding.py)
            self.plan = self.plan & ~RESPONSE_CODING | REQUEST_PLUGINS | RESPONSE_PLUGINS
        self.publish(made, plans)

    def publish(self, made: Snapshot, plans: dict[str, int]) -> None:
        self.generation += 1
        say_config(self.context, (self.generation, made, plans), oldest=1)

    def answers_to_config(self) -> list[str]:
        """The reason of each REFUSED, "" for each ACCEPTED, so far."""
        found = [envelope for to, envelope in self.context.sent if to == CONFIG]
        self.context.sent = [(to, envelope) for to, envelope in self.context.sent if to != CONFIG]
        return [envelope.reason if isinstance(envelope, Refused) else "" for envelope in found if isinstance(envelope, Accepted | Refused)]

    # -- in and out ----------------------------------------------------------------

    def request(
        self, target: str = "/", headers: str = "", body: bytes | None = b"", sid: int = SID, upstream: str = "u", **more: Any
    ) -> Routed:
        """What routing sends. body None: it will come as DATA, of unknown length."""
        length = -1 if body is None else len(body)
        raw = b"host: example.com\r\n" + block(headers)
        # fmt: off
        plain = Routed(sid, self.generation, Affinity(ROUTING, PLUGINS, UPSTREAM), "s", PEER, b"GET", target.encode("latin-1"), 11,
            b"example.com", raw, length, body or b"", body is not None, 0.5, b"", "192.0.2.7", "l", upstream, self.plan, {},
            (1.0, 2.0), b"", (),
        )
        # fmt: on
        return replace(plain, **more)

    def response(
        self,
        headers: str = "",
        body: bytes = b"",
        ended: bool = True,
        status: int = 200,
        length: int | None = None,
        sid: int = SID,
        **more: Any,
    ) -> Response:
        """What upstream sends."""
        size = length if length is not None else len(body) if ended else -1
        stamps = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
        report = Report("l", "u", "127.0.0.1:9000", status, True, 1, stamps, (), more.pop("error", ""), {}, "192.0.2.7")
        plain = Response(sid, UPSTREAM, status, block(headers), size, body, ended, report, ())
        return replace(plain, **more)

    def give(self, *envelopes: Any) -> None:
        """Hands envelopes in."""
        receivers = self.actor.receivers()
        for envelope in envelopes:
            receivers[type(envelope)](envelope)

    def feed(self, *envelopes: Any) -> list[Any]:
        """Hands envelopes in; returns what went out at once, without its addressees."""
        self.give(*envelopes)
        return self.out()

    async def run(self, *envelopes: Any) -> list[Any]:
        """The same with what goes out in the next turns of the loop."""
        out = self.feed(*envelopes)
        for _ in range(12):
            await asyncio.sleep(0)
        return out + self.out()

    def out(self) -> list[Any]:
        return [envelope for _, envelope in self.sent()]

    def sent(self) -> list[tuple[int, Any]]:
        """(addressee, envelope) of all that went out since the last look."""
        found, self.context.sent = self.context.sent, []
        return [entry for entry in found if entry[0] != CONFIG]

    async def one(self, *envelopes: Any) -> Any:
        """The only envelope that goes out."""
        [envelope] = await self.run(*envelopes)
        return envelope

    async def exchange(self, target: str = "/", headers: str = "", answer: str = "", body: bytes = b"", **more: Any) -> Response:
        """A request that goes to upstream, and its whole answer as accept gets it."""
        routed = await self.one(self.request(target, headers))
        assert isinstance(routed, Routed)
        response = await self.one(self.response(answer, body, **more))
        assert isinstance(response, Response)
        return response
