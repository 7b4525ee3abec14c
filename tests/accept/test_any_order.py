"""Connections in any order of events: no move that their tables have not, no stream and no byte left behind, one event a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.accept.outlet import WRITE_BUFFER
from pingap.stages.http2.engine import LocalSettings
from pingap.stages.messages import INLINE, UNKNOWN, WINDOW, Credit, Data, Interim, Request, Stranded
from tests.accept.playbook import CREW, UPSTREAM, Client, Play, get, post
from tests.accept.test_http2 import WEBSOCKET, Browser
from tests.http2.wire import GET, POST

SWITCH = (b"Connection: Upgrade", b"Upgrade: websocket")
LONG = INLINE + 1
SAID = [
    get(),
    get(b"/old", version=b"1.0"),
    get(b"/ws", *SWITCH),
    get(b"/last", b"Connection: close"),
    get() + get(b"/pipelined") + b"GET /and",
    post(b"Content-Length: 5", body=b"hello"),
    post(b"Content-Length: 5", body=b"he"),
    post(b"Content-Length: %d" % LONG, body=b"x" * (LONG - 5)),
    post(b"Content-Length: 5", b"Expect: 100-continue"),
    post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\r\n",
    b"GET / HT",
    b"TP/1.1\r\nHost: a\r\n\r\n",
    b"no request\r\n\r\n",
]

SIZES = st.sampled_from([0, 3, WRITE_BUFFER + 1])
of_stages = [
    st.tuples(st.just("grant"), st.sampled_from([3, WINDOW])),
    st.tuples(st.just("interim"), st.none()),
    *2 * [st.tuples(st.just("grant"), st.just(WINDOW))],
    st.tuples(st.just("answer"), st.tuples(st.just(200), SIZES, st.just(True))),
    st.tuples(st.just("answer"), st.tuples(st.sampled_from([200, 101, 204, 404, 503]), SIZES, st.booleans())),
    st.tuples(st.just("data"), st.tuples(SIZES, st.booleans(), st.sampled_from(["", "", "bad_gateway"]))),
    st.tuples(st.just("stranded"), st.none()),
    st.tuples(st.just("die"), st.sampled_from(["routing", "plugins", "upstream"])),
    st.tuples(st.just("time"), st.sampled_from([0.5, 3.0, 61.0])),
    st.tuples(st.just("drain"), st.none()),
]
of_client = [
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("read"), st.sampled_from([None, 1000])),
    st.tuples(st.just("eof"), st.none()),
    st.tuples(st.just("reset"), st.none()),
]
over_http1 = st.lists(st.one_of(*2 * [st.tuples(st.just("say"), st.sampled_from(SAID))], *of_stages, *of_client), min_size=10, max_size=30)
over_http2 = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.tuples(st.sampled_from([GET, POST, WEBSOCKET]), st.booleans())),
        st.tuples(st.just("send"), st.tuples(st.sampled_from([0, 3, LONG]), st.booleans())),
        st.tuples(st.just("trail"), st.sampled_from([b"x-sum", b":path"])),
        st.tuples(st.just("give up"), st.none()),
        *of_stages,
        *of_client,
    ),
    min_size=10,
    max_size=30,
)


class Stages:
    """They answer the newest request, whatever has become of it."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.alive = dict(CREW)
        self.newest_actor = 100
        self.asked: list[Request] = []

    def hear(self) -> None:
        self.asked += [message for _, message in self.play.stages_hear() if isinstance(message, Request)]

    async def do(self, what: str, how: Any) -> None:
        play = self.play
        if what == "time":
            await play.passes(how)
        elif what == "drain":
            play.actor.begin_drain(0.0)
        elif what == "die":
            self.newest_actor += 1
            self.alive = {actor: stage for actor, stage in self.alive.items() if stage != how} | {self.newest_actor: how}
            play.members(*self.alive.items())
        elif self.asked:
            self._answer(self.asked[-1], what, how)

    def _answer(self, request: Request, what: str, how: Any) -> None:
        play = self.play
        if what == "grant":
            play.tell(Credit(request.sid, how, UPSTREAM))
        elif what == "interim":
            play.tell(Interim(request.sid, 103, b""))
        elif what == "stranded":
            play.tell(Stranded(request.sid))
        elif what == "answer":
            status, size, ended = how
            play.answers(request, status, body=b"x" * size, ended=ended, length=size if ended else UNKNOWN)
        elif what == "data":
            size, ended, error = how
            play.tell(Data(request.sid, b"x" * size, ended, error))


def client_does(client: Client, what: str, how: Any) -> None:
    if client.transport.is_closing():
        return
    if what == "stop":
        client.stops_reading()
    elif what == "read":
        client.reads(how)
    elif what == "eof":
        client.shuts_its_side()
    elif what == "reset":
        client.resets()


async def ends(play: Play) -> None:
    """Everybody leaves; what may not be left is in `Play.end`."""
    for client in play.clients:
        if not client.transport.is_lost:
            client.resets()
    await play.turn()
    sids = [event.sid for event in play.events if event.sid]
    assert len(sids) == len(set(sids)), "a stream was told of twice"
    await play.end()


@given(over_http1)
@settings(max_examples=400, deadline=None)
async def test_http1_in_any_order(script: list[tuple[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        stages = Stages(play)
        client = play.connects()
        for what, how in script:
            if what == "say":
                if client.transport.is_closing():
                    client = play.connects()
                client.says(how)
            else:
                client_does(client, what, how)
                await stages.do(what, how)
            await play.turn()
            stages.hear()
        await ends(play)


@pytest.mark.parametrize("name", ["h2", "ngh2"])
@given(script=over_http2)
@settings(max_examples=200, deadline=None)
async def test_http2_in_any_order(name: str, script: list[tuple[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        stages = Stages(play)
        browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW))
        open_ids: list[int] = []
        for what, how in script:
            if what == "ask":
                if browser.client.transport.is_closing():
                    browser, open_ids = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW)), []
                fields, ended = how
                stream_id = browser.asks(fields, ended)
                if not ended:
                    open_ids.append(stream_id)
            elif open_ids and what == "send":
                size, ended = how
                size = min(size, browser.engine.room(open_ids[-1]))
                browser.sends(open_ids[-1], b"x" * size, ended)
                if ended:
                    open_ids.pop()
            elif open_ids and what == "trail":
                browser.engine.send_trailers(open_ids.pop(), ((how, b"1"),))
                browser.speaks()
            elif open_ids and what == "give up":
                browser.resets(open_ids.pop())
            else:
                client_does(browser.client, what, how)
                await stages.do(what, how)
            await play.turn()
            stages.hear()
            browser.hears()
        await ends(play)
