"""HTTP/2 clients: what a stream of theirs is to the stages, and what becomes of it, with each engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pingap.stages.accept.http2 import HEARD, ROUND_TRIP, UNREAD
from pingap.stages.accept.http2_stream import PORTION
from pingap.stages.accept.outlet import STREAM_TOP_UP, WRITE_BUFFER
from pingap.stages.http2 import engine as wire
from pingap.stages.http2.engine import PREFACE, Body, Fields, GoAway, Head, InterimHead, LocalSettings, Reset, Trailers
from pingap.stages.http2.engines import engine
from pingap.stages.messages import INLINE, STREAM_WINDOW, UNKNOWN, WINDOW, Credit, Data, Interim, Request
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Client, Play
from tests.http2.wire import ENGINES, GET, HEADERS, POST, SETTINGS, frame, headers

CREW = {ROUTING, PLUGINS, UPSTREAM}
WEBSOCKET: Fields = (
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/chat"),
    (b":authority", b"example.com"),
)


class Browser:
    """An HTTP/2 client on a connection of the playbook; `hears` gives the events that its engine makes of what came."""

    def __init__(self, play: Play, name: str, settings: LocalSettings | None = None, **server: Any) -> None:
        self.play = play
        self.client: Client = play.connects(enabled_h2=True, http2_engine=name, **server)
        self.engine = engine("h2")(True, settings or LocalSettings(window=16 * WINDOW, connection_window=16 * WINDOW))
        self.engine.start()
        self._events: list[Any] = []
        self.speaks()
        self.hears()

    def speaks(self) -> None:
        """What the engine has to say arrives at the server."""
        data = self.engine.outgoing()
        if data:
            self.client.says(data)

    async def listens(self) -> list[Any]:
        """The end of the turn comes: answers leave."""
        await self.play.turn()
        return self.hears()

    def hears(self) -> list[Any]:
        data = self.client.hears_all()
        if data:
            self._events += self.engine.receive(data)
            self.speaks()
        told, self._events = self._events, []
        return [event for event in told if isinstance(event, Head | InterimHead | Body | Trailers | Reset | GoAway)]

    def asks(self, fields: Fields = GET, ended: bool = True) -> int:
        stream_id = self.engine.request(fields, ended)
        self.speaks()
        return stream_id

    def sends(self, stream_id: int, data: bytes, ended: bool = False) -> None:
        self.engine.send_data(stream_id, data, ended)
        self.speaks()

    def resets(self, stream_id: int) -> None:
        self.engine.reset(stream_id, wire.CANCEL)
        self.speaks()


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def with_fields(fields: Fields, *more: tuple[bytes, bytes]) -> Fields:
    return (*fields, *more)


def without_date(fields: Fields) -> Fields:
    return tuple(field for field in fields if field[0] != b"date")


async def test_a_request_is_to_the_stages_what_it_is_over_http1(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(GET, (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")))
    request = play.hears_request()
    assert (request.method, request.target, request.version, request.host) == (b"GET", b"/", 20, b"example.com")
    assert request.headers == b"host: example.com\r\nte: trailers\r\ncookie: a=1; b=2\r\n"
    assert (request.length, request.body, request.ended) == (0, b"", True)
    play.answers(request, headers=b"content-type: text/plain\r\n", body=b"hello")
    head, body = await browser.listens()
    assert without_date(head.fields) == ((b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"5"))
    assert any(field[0] == b"date" for field in head.fields)
    assert (body.stream_id, body.data, body.ended) == (stream_id, b"hello", True)
    assert play.is_holding == 0
    assert (play.event.version, play.event.status, play.event.sent) == (20, 200, 5)


async def test_streams_are_answered_in_whatever_order_the_answers_come(play: Play, name: str) -> None:
    browser = Browser(play, name)
    first, second = browser.asks(), browser.asks()
    one, two = [envelope for _, envelope in play.stages_hear()]
    for request, stream_id, body in ((two, second, b"2"), (one, first, b"1")):
        play.answers(request, body=body)
        told = [(event.stream_id, event.data) for event in await browser.listens() if isinstance(event, Body)]
        assert told == [(stream_id, body)]


async def test_a_small_body_travels_inside_the_request(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"content-length", b"6")), ended=False)
    browser.sends(stream_id, b"abc")
    assert play.hears_nothing()
    browser.sends(stream_id, b"def", ended=True)
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (6, b"abcdef", True)


@pytest.mark.parametrize("first", [b"", b"he"])
async def test_a_small_body_that_pauses_leaves_as_far_as_it_has_come(
    play: Play, name: str, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr("pingap.stages.accept.intake.PAUSE", 0.0)
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"content-length", b"5")), False)
    if first:
        browser.sends(stream_id, first)
    await play.turn()
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (5, b"", False)
    play.grants(request, WINDOW)
    assert play.hears_data(request) == ([(b"he", False)] if first else [])
    play.tell(Interim(request.sid, 103, b""))
    assert any(isinstance(event, InterimHead) for event in await browser.listens())
    browser.sends(stream_id, b"hello"[len(first) :], True)
    await play.turn()
    assert play.hears_data(request) == [(b"hello"[len(first) :], True)]
    play.answers(request)


async def test_a_body_of_unknown_length_travels_inside_when_its_end_comes_with_the_head(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.engine.request(POST, False)
    browser.sends(stream_id, b"abc", ended=True)
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (3, b"abc", True)


async def test_a_body_streams_as_far_as_there_is_credit(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    assert (request.length, request.ended) == (UNKNOWN, False)
    browser.sends(stream_id, b"abc")
    assert play.hears_nothing()
    play.grants(request, 5)
    assert play.hears_data(request) == [(b"abc", False)]
    browser.sends(stream_id, b"defg", ended=True)
    assert play.hears_data(request) == [(b"de", False)]
    play.grants(request, 2)
    assert play.hears_data(request) == [(b"fg", True)]
    play.answers(request)
    await browser.listens()
    assert play.event.received == 7


async def test_a_client_sends_no_more_than_its_window_while_nobody_takes_its_body(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    sent = 0
    while room := browser.engine.room(stream_id):
        browser.sends(stream_id, b"x" * min(room, 16384))
        sent += min(room, 16384)
        await browser.listens()
    assert sent == LocalSettings().window
    play.grants(request, sent)
    await browser.listens()
    assert browser.engine.room(stream_id) == LocalSettings().window
    assert sum(len(payload) for payload, _ in play.hears_data(request)) == sent


async def test_slow_uploads_leave_room_for_other_streams(play: Play, name: str) -> None:
    browser = Browser(play, name)
    for _ in range(30):
        stream_id = browser.asks(POST, ended=False)
        while room := min(browser.engine.room(stream_id), 16384):
            browser.sends(stream_id, b"x" * room)
    play.stages_hear()
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    play.grants(request, 64 * WINDOW)
    sent = 0
    while sent < 4 * WINDOW and (room := min(browser.engine.room(stream_id), 16384)):
        browser.sends(stream_id, b"y" * room)
        sent += room
        await browser.listens()
    assert sent == 4 * WINDOW
    assert sum(len(payload) for payload, _ in play.hears_data(request)) == sent


async def test_100_comes_when_somebody_wants_the_body(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"expect", b"100-continue"), (b"content-length", b"3")), ended=False)
    request = play.hears_request()
    assert not request.ended
    assert await browser.listens() == []
    play.grants(request, WINDOW)
    (interim,) = await browser.listens()
    assert (interim.stream_id, interim.fields) == (stream_id, ((b":status", b"100"),))
    browser.sends(stream_id, b"abc", ended=True)
    assert play.hears_data(request) == [(b"abc", True)]


async def test_interim_answers_and_trailers_pass(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks()
    request = play.hears_request()
    play.tell(Interim(request.sid, 103, b"link: </a.css>\r\n", b"no phrases here"))
    play.answers(request, ended=False, body=b"x", reason=b"and none here")
    play.tell(Data(request.sid, b"y", True, "", False, None, b"grpc-status: 0\r\n"))
    interim, head, *bodies, trailers = await browser.listens()
    assert interim.fields == ((b":status", b"103"), (b"link", b"</a.css>"))
    assert without_date(head.fields) == ((b":status", b"200"),)
    assert b"".join(body.data for body in bodies) == b"xy"
    assert trailers.fields == ((b"grpc-status", b"0"),)
    assert play.is_holding == 0


async def test_trailers_of_a_request_go_with_its_end(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.engine.request(POST, False)
    browser.engine.send_data(stream_id, b"abc", False)
    browser.engine.send_trailers(stream_id, ((b"x-sum", b"1"), (b"authorization", b"no")))
    browser.speaks()
    request = play.hears_request()
    assert not request.ended
    play.grants(request, WINDOW)
    ((_, data),) = play.stages_hear()
    assert (data.payload, data.ended, data.trailers) == (b"abc", True, b"x-sum: 1\r\n")


async def test_what_windows_have_no_room_for_waits_and_holds_back_its_sender(play: Play, name: str) -> None:
    browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW))
    stream_id = browser.asks()
    request = play.hears_request()
    play.answers(request, body=b"a" * 1500, ended=False)
    play.streams(request, b"b" * STREAM_TOP_UP)
    _, *bodies = await browser.listens()
    assert b"".join(body.data for body in bodies) == b"a" * 1000
    assert play.hears_nothing()
    got = 1000
    for _ in range(2000):
        if got == 1500 + STREAM_TOP_UP:
            break
        browser.engine.acknowledge(stream_id, 1000)
        browser.speaks()
        got += sum(len(event.data) for event in await browser.listens())
    assert got == 1500 + STREAM_TOP_UP
    assert play.hears_credit() >= STREAM_TOP_UP
    play.streams(request, b"", ended=True)
    (end,) = await browser.listens()
    assert end.ended
    assert play.event.sent == got


async def test_of_two_answers_the_first_is_heard_and_no_byte_of_the_other(play: Play, name: str) -> None:
    """Routing has given up a destination of ours, whose answer is on its way all the same (PROTOCOL.md section 8)."""
    browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW))
    stream_id = browser.asks()
    request = play.hears_request()
    play.answers(request, 503, body=b"a" * 1500, source=ROUTING)
    play.answers(request, length=2000, ended=False, source=99)
    play.streams(request, b"b" * 2000, ended=True)
    head, first = await browser.listens()
    browser.engine.acknowledge(stream_id, 1000)
    browser.speaks()
    (last,) = await browser.listens()
    assert (dict(head.fields)[b":status"], first.data + last.data, last.ended) == (b"503", b"a" * 1500, True)


@pytest.mark.parametrize("is_inline", [True, False])
async def test_an_answer_that_has_come_whole_is_not_cut_when_its_upstream_dies(play: Play, name: str, is_inline: bool) -> None:
    """The client is slow; nothing more is to come from there."""
    browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW))
    whole = browser.asks()
    play.answers(first := play.hears_request(), body=b"a" * 5000, ended=is_inline)
    if not is_inline:
        play.streams(first, b"b" * 100_000, ended=True)
    part = browser.asks()
    play.answers(play.hears_request(), body=b"a" * 5000, ended=False)
    told = await browser.listens()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (14, "upstream"))
    for _ in range(200):
        browser.engine.acknowledge(whole, 1000)
        browser.speaks()
        told += await browser.listens()
    ends = [event for event in told if isinstance(event, Body) and event.ended]
    assert [event.stream_id for event in ends] == [whole]
    got = sum(len(event.data) for event in told if isinstance(event, Body) and event.stream_id == whole)
    assert got == (5000 if is_inline else 105_000)
    assert [event.stream_id for event in told if isinstance(event, Reset)] == [part]
    assert not any(isinstance(message, Credit) for _, message in play.stages_hear()), "nobody is there to take it"


async def test_a_stream_without_room_does_not_stop_another(play: Play, name: str) -> None:
    browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW))
    browser.asks()
    stuck = play.hears_request()
    play.answers(stuck, body=b"a" * 5000, ended=False)
    other = browser.asks()
    play.answers(play.hears_request(), body=b"b" * 900)
    told = await browser.listens()
    assert [event.data for event in told if isinstance(event, Body) and event.stream_id == other] == [b"b" * 900]


async def test_long_answers_take_turns_on_a_slow_socket(play: Play, name: str) -> None:
    browser = Browser(play, name)
    first, second = browser.asks(), browser.asks()
    one, two = [envelope for _, envelope in play.stages_hear()]
    browser.client.stops_reading()
    for request in (one, two):
        play.answers(request, ended=False)
        play.streams(request, b"x" * WINDOW)
    await play.turn()
    assert len(browser.client.transport.unsent) <= 2 * WRITE_BUFFER + WINDOW
    seen = {first: 0, second: 0}
    for _ in range(20):
        browser.client.reads(WRITE_BUFFER)
        for event in await browser.listens():
            if isinstance(event, Body):
                seen[event.stream_id] += len(event.data)
                browser.engine.acknowledge(event.stream_id, event.flow_length)
    assert min(seen.values()) >= WINDOW // 2, f"one waited for the other: {seen}, portions of {PORTION}"


async def test_a_reset_of_the_client_is_heard_by_all_stages(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks()
    request = play.hears_request()
    browser.resets(stream_id)
    assert play.hears_cancels() == CREW
    assert (play.event.status, play.event.error) == (499, "client_closed")
    play.answers(request, body=b"late")
    assert await browser.listens() == []
    browser.asks()
    play.answers(play.hears_request())
    assert [type(event) for event in await browser.listens()] == [Head]


async def test_all_streams_of_a_lost_connection_are_cancelled(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks()
    browser.asks()
    play.stages_hear()
    browser.client.resets()
    await play.turn()
    assert [event.status for event in play.events] == [499, 499]
    assert len(play.hears_cancels()) == 3
    assert play.is_holding == 0


@pytest.mark.parametrize("announced", [None, 10])
async def test_an_answer_that_breaks_off_ends_in_a_reset(play: Play, name: str, announced: int | None) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks()
    request = play.hears_request()
    play.answers(request, body=b"x", ended=False, length=announced)
    play.streams(request, b"", error="bad_gateway")
    *_, last = await browser.listens()
    assert (last.stream_id, last.code) == (stream_id, wire.INTERNAL_ERROR)
    assert play.event.error == "bad_gateway"


@pytest.mark.parametrize("payload", [b"short", b"much too long for it"])
async def test_an_answer_of_another_length_than_it_announced_ends_in_a_reset(play: Play, name: str, payload: bytes) -> None:
    browser = Browser(play, name)
    browser.asks()
    request = play.hears_request()
    play.answers(request, ended=False, length=10)
    play.streams(request, payload, ended=True)
    *_, last = await browser.listens()
    assert isinstance(last, Reset)
    assert play.event.error == "bad_gateway"


@pytest.mark.parametrize(("method", "status", "length"), [(b"HEAD", 200, 5), (b"GET", 204, UNKNOWN), (b"GET", 304, 5)])
async def test_answers_without_a_body_have_none(play: Play, name: str, method: bytes, status: int, length: int) -> None:
    browser = Browser(play, name)
    browser.asks(((b":method", method), *GET[1:]))
    play.answers(play.hears_request(), status=status, length=length, body=b"never")
    (head,) = await browser.listens()
    assert head.ended
    assert ((b"content-length", b"5") in head.fields) == (length == 5)
    assert play.event.sent == 0


async def test_an_early_answer_ends_the_upload_but_is_heard_before(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    play.grants(request, WINDOW)
    play.answers(request, status=413, body=b"no")
    head, body = await browser.listens()
    assert (head.fields[0], body.data, body.ended) == ((b":status", b"413"), b"no", True)
    assert play.hears_cancels() == CREW
    browser.sends(stream_id, b"on its way")
    await play.passes(HEARD + 0.5)
    (last,) = browser.hears()
    assert (last.stream_id, last.code) == (stream_id, wire.NO_ERROR)
    assert play.hears_nothing()


@pytest.mark.parametrize("end", ["as announced", "in trailers", "too short", "too long", "reset", "reset with NO_ERROR", "not at all"])
@pytest.mark.parametrize("refused", [False, True])
async def test_however_the_rest_of_an_upload_ends_after_its_answer_it_is_no_flood(play: Play, name: str, end: str, refused: bool) -> None:
    browser = Browser(play, name)
    fields = with_fields(POST, (b"content-length", b"70000"), *([(b"expect", b"x")] if refused else []))
    for _ in range(450):
        stream_id = browser.asks(fields, False)
        browser.sends(stream_id, b"x" * 10)
        await play.turn()
        if not refused:
            [request] = [envelope for _, envelope in play.stages_hear() if isinstance(envelope, Request)]
            play.answers(request, body=b"no")
        await play.turn()
        if end == "not at all":
            await play.passes(3)
        elif end.startswith("reset"):
            browser.engine.reset(stream_id, 0 if "NO_ERROR" in end else wire.CANCEL)
        else:
            browser.sends(stream_id, b"y" * {"too short": 1, "too long": 69_999}.get(end, 69_990), end != "in trailers")
            if end == "in trailers":
                browser.engine.send_trailers(stream_id, ((b"x-a", b"1"),))
        browser.speaks()
        heard = await browser.listens()
        assert not [event for event in heard if isinstance(event, GoAway)]
        play.stages_hear()


async def test_a_malformed_request_is_reset_and_logged(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(GET, (b"connection", b"close")))
    told = await browser.listens()
    assert [(event.stream_id, event.code) for event in told] == [(stream_id, wire.PROTOCOL_ERROR)]
    assert play.hears_nothing()
    named = (b"GET", b"/") if name == "h2" else (b"", b"")  # libnghttp2 tells nothing of it
    assert (play.event.method, play.event.target, play.event.version, play.event.status) == (*named, 20, 400)
    assert play.event.sent == 0
    browser.asks()
    play.hears_request()


@pytest.mark.parametrize("ended", [True, False])
async def test_a_request_without_an_authority_is_400_as_over_http1(play: Play, name: str, ended: bool) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(tuple(field for field in (GET if ended else POST) if field[0] != b":authority"), ended=ended)
    told = await browser.listens()
    if name == "h2":
        assert told[0].kind == wire.HEAD and dict(told[0].fields)[b":status"] == b"400"
    else:  # libnghttp2 lets no such request through
        assert [(event.stream_id, event.code) for event in told] == [(stream_id, wire.PROTOCOL_ERROR)]
    assert play.hears_nothing()
    assert (play.event.status, play.event.error) == (400, "bad_request")
    browser.asks()
    play.hears_request()


@pytest.mark.parametrize("length", [6, INLINE + 1], ids=["small", "large"])
async def test_a_body_unlike_its_length_is_400_in_the_log(play: Play, name: str, length: int) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"content-length", b"%d" % length)), ended=False)
    browser.sends(stream_id, b"abc", ended=True)
    (told,) = await browser.listens()
    assert (told.stream_id, told.code) == (stream_id, wire.PROTOCOL_ERROR)
    assert (play.event.method, play.event.status, play.event.error) == (b"POST", 400, "bad_request")
    assert play.is_holding == 0


@pytest.mark.parametrize("how", ["reset", "lost"])
async def test_a_client_that_leaves_before_a_small_body_is_here_is_499_in_the_log(play: Play, name: str, how: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"content-length", b"6")), ended=False)
    browser.sends(stream_id, b"abc")
    if how == "reset":
        browser.resets(stream_id)
    else:
        browser.client.resets()
    await play.turn()
    assert (play.event.method, play.event.status, play.event.received) == (b"POST", 499, 3)
    assert play.hears_nothing()


async def test_what_is_not_done_here_is_answered(play: Play, name: str) -> None:
    browser = Browser(play, name, max_target_bytes=100)
    browser.asks((*GET[:3], (b":path", b"/" + b"x" * 200)))
    head, *_ = await browser.listens()
    assert head.fields[0] == (b":status", b"414")
    event = play.event
    assert (event.method, event.target, event.version, event.status) == (b"GET", b"/" + b"x" * 200, 20, 414)
    assert play.hears_nothing()


async def test_a_flood_ends_the_connection(play: Play, name: str) -> None:
    browser = Browser(play, name)
    for _ in range(500):
        if not browser.client.is_closed:
            browser.resets(browser.asks())
            play.stages_hear()
    told = await browser.listens()
    assert [event.code for event in told if isinstance(event, GoAway)] == [wire.ENHANCE_YOUR_CALM]
    assert play.is_holding == 0
    assert play.context.counted["http2_connection_errors"]


async def test_nonsense_ends_the_connection_with_a_reason(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks()
    play.stages_hear()
    browser.client.says(frame(HEADERS, 0, 0, b""))
    told = await browser.listens()
    assert [event.code for event in told] == [wire.PROTOCOL_ERROR]
    assert browser.client.is_closed
    assert play.event.status == 499


# -- extended CONNECT ----------------------------------------------------------------------


async def tunnel(play: Play, name: str) -> tuple[Browser, int, Request]:
    browser = Browser(play, name)
    stream_id = browser.asks(WEBSOCKET, ended=False)
    request = play.hears_request()
    assert (request.method, request.upgrade, request.ended) == (b"GET", b"websocket", True)
    play.answers(request, status=101, headers=b"sec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n", ended=False)
    (head,) = await browser.listens()
    assert without_date(head.fields) == ((b":status", b"200"), (b"sec-websocket-protocol", b"chat"))
    return browser, stream_id, request


async def test_a_proxy_that_sends_its_clients_key_gets_the_answer_to_it(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks((*WEBSOCKET, (b"sec-websocket-key", b"x")), ended=False)
    request = play.hears_request()
    assert b"sec-websocket-key: x\r\n" in request.headers
    play.answers(request, status=101, headers=b"sec-websocket-accept: y\r\n", ended=False)
    (head,) = await browser.listens()
    assert without_date(head.fields) == ((b":status", b"200"), (b"sec-websocket-accept", b"y"))


async def test_extended_connect_opens_a_tunnel_with_the_101_of_the_backend(play: Play, name: str) -> None:
    browser, stream_id, request = await tunnel(play, name)
    browser.sends(stream_id, b"up")
    assert play.hears_nothing()
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"up", False)]
    play.streams(request, b"down")
    (body,) = await browser.listens()
    assert (body.data, body.ended) == (b"down", False)
    browser.sends(stream_id, b"", ended=True)
    assert play.hears_data(request) == [(b"", True)]
    assert play.is_holding == 1
    play.streams(request, b"bye", ended=True)
    (body,) = await browser.listens()
    assert (body.data, body.ended) == (b"bye", True)
    assert play.is_holding == 0
    assert (play.event.status, play.event.received, play.event.sent) == (101, 2, 7)


async def test_the_backend_may_end_its_half_of_a_tunnel_first(play: Play, name: str) -> None:
    browser, stream_id, request = await tunnel(play, name)
    play.grants(request, WINDOW)
    play.streams(request, b"bye", ended=True)
    (body,) = await browser.listens()
    assert body.ended
    assert play.is_holding == 1
    browser.sends(stream_id, b"thanks", ended=True)
    assert play.hears_data(request) == [(b"thanks", True)]
    assert play.is_holding == 0


async def test_bytes_before_the_101_are_not_passed_on(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(WEBSOCKET, ended=False)
    request = play.hears_request()
    browser.sends(stream_id, b"early")
    assert play.hears_nothing()
    play.answers(request, status=101, ended=False)
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"early", False)]


@pytest.mark.parametrize(("status", "told"), [(403, b"403"), (200, b"502")])
async def test_without_101_there_is_no_tunnel(play: Play, name: str, status: int, told: bytes) -> None:
    browser = Browser(play, name)
    browser.asks(WEBSOCKET, ended=False)
    play.answers(play.hears_request(), status=status, body=b"no")
    head, *_ = await browser.listens()
    assert head.fields[0] == (b":status", told)
    assert play.is_holding == 0
    assert [entry[1] for entry in play.context.logged if entry[0] == "warn"] == ["backend opened no tunnel"] * (told == b"502")


async def test_a_tunnel_that_ends_with_trailers_has_none(play: Play, name: str) -> None:
    browser, stream_id, request = await tunnel(play, name)
    play.grants(request, WINDOW)
    browser.engine.send_trailers(stream_id, ((b"x-sum", b"1"),))
    browser.speaks()
    ((_, data),) = play.stages_hear()
    assert (data.payload, data.ended, data.trailers) == (b"", True, b"")
    play.streams(request, b"", ended=True)


async def test_a_refused_tunnel_is_not_opened_by_the_200_of_grpc(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks(with_fields(WEBSOCKET, (b"content-type", b"application/grpc")), ended=False)
    play.answers(play.hears_request(), status=200, body=b"no tunnel")
    head, *_ = await browser.listens()
    assert head.fields[0] == (b":status", b"502")


# -- beginnings --------------------------------------------------------------------------------


async def test_a_listener_without_http2_refuses_its_preface(play: Play) -> None:
    client = play.connects()
    client.says(PREFACE + frame(SETTINGS))
    assert client.hears().startswith(b"HTTP/1.1 505 ")


UPGRADE = (
    b"GET /up HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)


async def test_an_upgrade_makes_the_request_stream_1(play: Play, name: str) -> None:
    client = play.connects(enabled_h2=True, http2_engine=name)
    client.says(UPGRADE)
    switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    heard = client.hears_all()
    assert heard.startswith(switch)
    request = play.hears_request()
    assert (request.target, request.version, request.upgrade, request.headers) == (b"/up", 20, b"", b"host: a.example\r\n")
    play.answers(request, body=b"hello")
    await play.turn()
    assert b"hello" in client.hears_all()
    client.says(PREFACE + frame(SETTINGS))
    assert not client.is_closed


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"HTTP2-Settings: !!!\r\n",
        b"HTTP2-Settings: AAM\r\n",
    ],
)
async def test_an_upgrade_without_good_settings_is_an_ordinary_request(play: Play, name: str, line: bytes) -> None:
    client = play.connects(enabled_h2=True, http2_engine=name)
    client.says(UPGRADE.replace(b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n", line))
    request = play.hears_request()
    assert request.version == 11
    play.answers(request, body=b"plain")
    assert client.hears().startswith(b"HTTP/1.1 200 ")


# -- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [0, 1, 3, 2**31 - 1])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_client_that_leaves_in_order_gets_its_answers(play: Play, name: str, last: int, at_once: bool) -> None:
    """It may name any last stream: it means those that we open, and we open none. Go's Shutdown says 2^31-1."""
    browser = Browser(play, name)
    browser.asks()
    first = play.hears_request()
    browser.asks()
    second = play.hears_request()
    browser.engine.goaway(wire.NO_ERROR, last)
    goodbye = browser.engine.outgoing()
    for piece in (goodbye,) if at_once else (goodbye[at : at + 1] for at in range(len(goodbye))):
        browser.client.says(piece)
    for request in (first, second):
        play.answers(request, body=b"ok")
    told = await browser.listens()
    assert [event.fields[0][1] for event in told if isinstance(event, Head)] == [b"200", b"200"]
    assert [event.code for event in told if isinstance(event, GoAway)] in ([], [wire.NO_ERROR])
    await play.turn()
    assert browser.client.is_closed, "it opens no more streams"


async def test_a_quiet_connection_is_closed_with_goaway(play: Play, name: str) -> None:
    browser = Browser(play, name, keepalive_timeout=5.0)
    browser.asks()
    play.answers(play.hears_request())
    await browser.listens()
    await play.passes(4)
    assert not browser.client.is_closed
    await play.passes(2)
    (last,) = browser.hears()
    assert (last.code, last.last_stream_id) == (wire.NO_ERROR, 1)
    assert browser.client.is_closed


async def test_a_connection_whose_first_request_was_refused_stays_for_the_next(play: Play, name: str) -> None:
    browser = Browser(play, name, header_timeout=3.0, keepalive_timeout=20.0, max_target_bytes=100)
    browser.asks((*GET[:3], (b":path", b"/" + b"x" * 200)))
    head, *_ = await browser.listens()
    assert head.fields[0] == (b":status", b"414")
    await play.passes(10)
    assert not browser.client.is_closed
    await play.passes(12)
    assert browser.client.is_closed


async def test_a_connection_without_a_first_request_does_not_stay(play: Play, name: str) -> None:
    browser = Browser(play, name, header_timeout=3.0)
    await play.passes(4)
    assert browser.client.is_closed


async def test_a_body_that_stops_coming_is_answered_with_408(play: Play, name: str) -> None:
    browser = Browser(play, name, downstream_read_timeout=5.0)
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    play.grants(request, WINDOW)
    browser.sends(stream_id, b"abc")
    await play.passes(4)
    assert browser.hears() == []
    await play.passes(2)
    head, *_ = browser.hears()
    assert head.fields[0] == (b":status", b"408")
    assert play.event.status == 408


async def test_a_body_that_waits_for_credit_is_nobodys_fault(play: Play, name: str) -> None:
    browser = Browser(play, name, downstream_read_timeout=5.0)
    stream_id = browser.asks(POST, ended=False)
    play.hears_request()
    browser.sends(stream_id, b"abc")
    await play.passes(20)
    assert play.is_holding == 1


async def test_a_client_that_makes_no_room_loses_that_stream_only(play: Play, name: str) -> None:
    browser = Browser(play, name, LocalSettings(window=1000, connection_window=16 * WINDOW), downstream_write_timeout=5.0)
    stuck = browser.asks()
    play.answers(play.hears_request(), body=b"x" * 5000, ended=False)
    await browser.listens()
    browser.asks()
    living = play.hears_request()
    await play.passes(6)
    (last,) = browser.hears()
    assert (last.stream_id, last.code) == (stuck, wire.CANCEL)
    play.stages_hear()
    play.answers(living)
    assert [type(event) for event in await browser.listens()] == [Head]


async def test_a_draining_connection_says_goodbye_twice_and_finishes_its_streams(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks()
    request = play.hears_request()
    play.actor.begin_drain(0.0)
    told = browser.hears()
    await play.turn()
    told += browser.hears()
    await play.passes(ROUND_TRIP)
    told += browser.hears()
    assert [event.last_stream_id for event in told if isinstance(event, GoAway)] == [wire.LAST_STREAM, 1]
    assert not browser.client.is_closed
    play.answers(request, body=b"done")
    head, body = [event for event in await browser.listens() if not isinstance(event, GoAway)]
    assert (head.fields[0], body.data) == ((b":status", b"200"), b"done")
    assert browser.client.is_closed


async def test_a_quiet_connection_leaves_at_once_when_draining(play: Play, name: str) -> None:
    browser = Browser(play, name)
    play.actor.begin_drain(0.0)
    browser.hears()  # and answers the PING
    await browser.listens()
    assert browser.client.is_closed


async def test_a_dead_stage_costs_a_stream_not_the_connection(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.asks()
    play.answers(play.hears_request(), body=b"x", ended=False)
    browser.asks(POST, ended=False)
    play.hears_request()
    await browser.listens()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (14, "upstream"))
    told = await browser.listens()
    assert [event.code for event in told if isinstance(event, Reset)] == [wire.INTERNAL_ERROR]
    assert [event.fields[0] for event in told if isinstance(event, Head)] == [(b":status", b"502")]
    browser.asks()
    play.answers(next(e for _, e in play.stages_hear() if isinstance(e, Request)), source=14)
    assert [type(event) for event in await browser.listens()] == [Head]


async def test_bodies_up_to_the_bound_are_inlined_and_longer_ones_stream(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(with_fields(POST, (b"content-length", b"%d" % (INLINE + 1))), ended=False)
    request = play.hears_request()
    assert (request.length, request.ended) == (INLINE + 1, False)
    browser.resets(stream_id)


async def test_a_connection_whose_last_request_was_malformed_is_closed_like_any_that_is_quiet(play: Play, name: str) -> None:
    browser = Browser(play, name)
    stream_id = browser.asks(POST, ended=False)
    request = play.hears_request()
    browser.engine.send_trailers(stream_id, ((b":path", b"/"),))
    browser.speaks()
    (reset,) = await browser.listens()
    assert (reset.stream_id, reset.code) == (stream_id, wire.PROTOCOL_ERROR)
    assert play.hears_cancels() == set(request.affinity)
    await play.passes(80)
    assert browser.client.is_closed


async def test_who_shuts_its_side_and_does_not_read_its_answer_is_not_waited_for_for_ever(play: Play, name: str) -> None:
    browser = Browser(play, name)
    browser.client.stops_reading()
    browser.asks()
    play.answers(play.hears_request(), body=b"x" * 60000)
    await play.turn()
    browser.client.shuts_its_side()
    await play.passes(50)
    assert not browser.client.transport.is_lost
    browser.client.reads(1000)
    await play.passes(50)
    assert not browser.client.transport.is_lost, "it reads, if slowly"
    await play.passes(70)
    assert browser.client.transport.was_reset


@pytest.mark.parametrize("is_narrow", [True, False], ids=["a small window for all", "a slow socket"])
async def test_a_slow_client_gets_some_of_each_answer_and_loses_none(play: Play, name: str, is_narrow: bool) -> None:
    """Each waits longer for its turn than a client may leave an answer alone."""
    settings = LocalSettings(window=16 * WINDOW, connection_window=65535 if is_narrow else 64 * WINDOW)
    browser = Browser(play, name, settings, downstream_write_timeout=5.0)
    asked: dict[int, Request] = {}
    for _ in range(12):
        stream_id = browser.asks()
        asked[stream_id] = play.hears_request()
    if not is_narrow:
        browser.client.stops_reading()
    for request in asked.values():
        play.answers(request, ended=False)
        play.streams(request, b"x" * STREAM_WINDOW)
    seen = dict.fromkeys(asked, 0)
    for _ in range(24):
        if not is_narrow:
            browser.client.reads(PORTION)
        for event in await browser.listens():
            if isinstance(event, Body):
                seen[event.stream_id] += len(event.data)
                browser.engine.acknowledge(event.stream_id, event.flow_length)
        browser.speaks()
        for _, credit in play.stages_hear():
            play.streams(next(request for request in asked.values() if request.sid == credit.sid), b"x" * credit.bytes)
        await play.passes(2)
    assert play.events == [], "none was given up"
    assert min(seen.values()) > 0, seen


async def test_a_window_for_all_that_never_opens_ends_the_streams_that_wait_for_it(play: Play, name: str) -> None:
    browser = Browser(play, name, LocalSettings(window=16 * WINDOW, connection_window=65535), downstream_write_timeout=5.0)
    for _ in range(3):
        browser.asks()
        play.answers(play.hears_request(), body=b"x" * PORTION, ended=False)
    await browser.listens()
    await play.passes(15)
    assert [event.code for event in browser.hears() if isinstance(event, Reset)] == [wire.CANCEL] * 3


async def test_who_reads_nothing_may_not_ask_without_end(play: Play, name: str) -> None:
    """Heads are under no window: only the socket says that nobody takes them."""
    browser = Browser(play, name)
    browser.client.stops_reading()
    client = browser.client
    head = ((b":method", b"HEAD"), *GET[1:])
    asked = 0
    for number in range(2000):
        stream_id = 2 * number + 1  # the client's engine would wait for answers
        client.says(headers(stream_id, head, ended=True))
        for _, request in play.stages_hear():
            asked += 1
            play.answers(request, headers=b"location: /%b\r\n" % (b"x" * 4000))
        await play.turn()
    assert asked < 1000
    assert len(client.transport.unsent) < UNREAD + 64 * 1024
    client.reads()
    await play.turn()
    assert len(play.stages_hear()) > 0, "it goes on when the client reads"
