"""The same as test_any_order.py where streams share connections, and backends agree to HTTP/2 or to HTTP/1.1 as they like."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.http2.engine import CANCEL, HTTP_1_1_REQUIRED, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, LocalSettings
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import DEFAULT_RETRIES
from tests.upstream.playbook import ACCEPT, Http2Link, Link, Play
from tests.upstream.test_any_order import ADDRESSES, DROPPED, SELDOM, Stream, Walk


class SharedWalk(Walk):
    def __init__(self, play: Play, patch: pytest.MonkeyPatch, engine: str) -> None:
        super().__init__(play, patch)
        self.engine = engine
        self.owing: dict[tuple[int, int], tuple[Http2Link, int]] = {}
        """(link, stream) → the link and the number of the request, while the backend owes an answer."""
        self.begun: set[tuple[int, int]] = set()
        """Those whose answer has begun."""
        self.touched: dict[int, int] = {}
        """Request → how many times a backend has taken it up and not refused it."""

    def serve(self, idle: float = 60.0) -> None:
        self.play.serves(
            "a:1 b:1",
            ("least_conn", "round_robin")[self.caps % 2],
            max_connections=self.caps,
            max_pending=3,
            idle_timeout=idle,
            max_h2_streams=1 + self.caps,
            alpn="h2h1",
            sni="$host" if self.caps == 3 else "backend.test",
            http2_engine=self.engine,
            location=DROPPED,
        )

    @property
    def shared_links(self) -> list[Http2Link]:
        return [link for backend in self.play.backends.values() for link in backend.links if isinstance(link, Http2Link)]

    # -- what may happen besides ----------------------------------------------------------

    def owed(self, number: int) -> tuple[Http2Link, int, int] | None:
        """An answer that some backend owes: its link, stream and request."""
        owed = [(link, key[1], target) for key, (link, target) in self.owing.items() if not link.is_closed]
        return owed[number % len(owed)] if owed else None

    async def ask(self, number: int) -> None:
        """Some want a tunnel, for which these backends have no HTTP/2; they decline it over HTTP/1.1 too."""
        if number % 9:
            await super().ask(number)
            return
        sid = (ACCEPT << 32) + len(self.streams) + 1
        self.streams[sid] = Stream(b"GET", ACCEPT, 0)
        self.play.asks(b"GET", b"/%d" % self.number(sid), sid=sid, upgrade=b"websocket")

    async def respond(self, number: int) -> None:
        owed = self.owed(number)
        if owed is None:
            return
        link, stream, target = owed
        key = (id(link), stream)
        body = b"<%d>" % target
        is_head = link.streams[stream][b":method"] == b"HEAD"
        kind = number % 5
        status = 503 if number // 5 % 4 == 0 else 200
        if key in self.begun:
            if kind and not is_head:
                link.sends(stream, b"." * (number * 7 % 400_000))
                return
            if kind % 2 or is_head:
                link.sends(stream, b"", ended=True)
            else:
                link.engine.send_trailers(stream, ((b"x-sum", b"1"),))
                link.speaks()
            self.settle(key)
        elif kind == 0:
            link.starts(stream, 103)
        elif kind == 1:
            link.starts(stream, status)
            link.sends(stream, b"" if is_head else body)
            self.begun.add(key)
        elif is_head:
            link.starts(stream, status, ended=True)
            self.settle(key)
        else:
            link.answers(stream, body, status)
            self.settle(key)

    def settle(self, key: tuple[int, int]) -> None:
        del self.owing[key]
        self.begun.discard(key)

    async def drop(self, number: int) -> None:
        owed = self.owed(number)
        if owed is not None:
            link, stream, target = owed
            key = (id(link), stream)
            code = (REFUSED_STREAM, INTERNAL_ERROR, CANCEL, NO_ERROR, HTTP_1_1_REQUIRED)[number % 5]
            if code in (REFUSED_STREAM, HTTP_1_1_REQUIRED) and key not in self.begun:
                self.touched[target] -= 1
            link.drops(stream, code)
            self.settle(key)

    async def leave(self, number: int) -> None:
        links = [link for link in self.shared_links if not link.is_closed]
        if links and number % 3 == 0:
            link = links[number % len(links)]
            self.look_at_backends()
            owed = sorted(stream for key, (asked, _) in self.owing.items() if asked is link for stream in [key[1]])
            kept = [stream for stream in owed if (id(link), stream) in self.begun]
            last = owed[number % len(owed)] if owed else max(link.streams, default=0)
            last = max([last, *kept])
            for stream in owed:
                if stream > last:
                    key = (id(link), stream)
                    self.touched[self.owing[key][1]] -= 1
                    self.settle(key)
            link.leaves(last, HTTP_1_1_REQUIRED if number % 2 else NO_ERROR)

    async def cut(self, number: int) -> None:
        links = self.shared_links
        if links:
            link = links[-1 - number % min(4, len(links))]
            (link.closes, link.resets)[number % 2]()

    async def hold(self, number: int) -> None:
        """A backend gives room for bodies, or none, from now on; or its socket takes nothing."""
        for link in self.shared_links[-2:]:
            if number % 3 == 0:
                link.acknowledges = not link.acknowledges
            elif number % 3 == 1:
                link.stops_reading()
            else:
                link.reads()

    async def agree(self, number: int) -> None:
        for address in ADDRESSES:
            self.play.backend(address).agrees_to = "http/1.1" if number % 4 == 0 else "h2"
            self.play.backend(address).settings = LocalSettings(max_streams=1 + number % 5)

    async def turn(self, number: int) -> None:
        await self.play.turn()
        self.look()
        await self.play.turn()
        self.look_at_lines()

    # -- what must hold ----------------------------------------------------------------------

    def look_at_backends(self) -> None:
        super().look_at_backends()
        for link in self.shared_links:
            for stream in link.listens():
                self.take_up(link, stream)
            for stream in link.reset:
                key = (id(link), stream)
                if key in self.owing:
                    self.settle(key)
            for stream in link.ended:
                length = link.streams[stream].get(b"content-length")
                assert length is None or int(length) == len(link.bodies[stream])
        for key, (link, _) in list(self.owing.items()):
            if link.is_closed:
                self.settle(key)

    def take_up(self, link: Http2Link, stream: int) -> None:
        fields = link.streams[stream]
        target = int(fields[b":path"][1:])
        client = self.streams[(ACCEPT << 32) + target]
        assert fields[b":method"] == client.method
        assert fields[b":scheme"] == b"https"
        self.owing[id(link), stream] = (link, target)
        touched = self.touched[target] = self.touched.get(target, 0) + 1
        assert touched <= (1 + DEFAULT_RETRIES if client.method in IDEMPOTENT else 1), "sent twice, though that may do harm"

    def take_head(self, link: Link, data: bytes) -> bytes:
        """HTTP/1.1: a request that a backend had refused over HTTP/2 may come here."""
        rest = super().take_head(link, data)
        target = self.asked_of[id(link)][1]
        touched = self.touched[target] = self.touched.get(target, 0) + 1
        assert touched <= (1 + DEFAULT_RETRIES if self.asked_of[id(link)][2] in IDEMPOTENT else 1)
        return rest

    def look_at_shared(self, state: BackendState) -> None:
        assert len(set(map(id, state.shared))) == len(state.shared)
        shared: list[Any] = state.shared
        for connection in shared:
            assert connection.places.free > 0 or connection.transport.is_closing()
        for connecting in state.connecting:
            assert connecting.waiting, "nobody opens a connection for nobody"

    def look_at_lines(self) -> None:
        for group in {group for compiled in self.play.actor._generations._compiled.values() for group in compiled.groups.values()}:
            for state in group.backends:
                for place in state.pending:
                    assert place.needs_http1 or state.with_room(place.name) is None, "nobody waits where there is room"
                    assert state.coming(place.name, place.needs_http1) is None


OFTEN = ["ask"] * 8 + ["respond"] * 10 + ["answer", "answer", "more", "turn", "turn", "upload", "upload"] * 2
WORDS = OFTEN + ["drop", "leave", "cut", "hold", "agree"] + SELDOM.split()
steps = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 100_000)), min_size=5, max_size=80)


@pytest.mark.parametrize("engine", ["h2", "ngh2"])
def test_whatever_happens_streams_keep_to_their_requests_and_nothing_stays_behind(engine: str) -> None:
    pytest.importorskip(engine)

    @settings(max_examples=150, deadline=None)
    @given(steps)
    def walks(steps: list[tuple[str, int]]) -> None:
        async def walk() -> None:
            with pytest.MonkeyPatch.context() as patch:
                play = Play(patch)
                await play.begin()
                walk = SharedWalk(play, patch, engine)
                walk.serve()
                try:
                    for word, number in steps:
                        await walk.step(word, number)
                    await walk.end()
                finally:
                    # A failed walk leaves some, and they must not dial for real.
                    for task in asyncio.all_tasks() - {asyncio.current_task()}:
                        task.cancel()

        asyncio.run(walk())

    walks()
