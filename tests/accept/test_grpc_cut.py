"""Answers in gRPC that break off: their client gets what there is of them, and then a status instead of a reset."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.grpc import trailers_for
from pingap.stages.http2 import engine as wire
from pingap.stages.http2.engine import Body, Fields, LocalSettings, Reset, Trailers
from pingap.stages.messages import WINDOW, Data, Request
from tests.accept.playbook import PLUGINS, ROUTING, Play
from tests.accept.test_http2 import Browser, with_fields
from tests.http2.wire import ENGINES, POST

GRPC = b"content-type: application/grpc\r\n"
CALL: Fields = with_fields(POST, (b"content-type", b"application/grpc+proto"), (b"te", b"trailers"))
MESSAGE = b"\0\0\0\0\x05hello"
UNAVAILABLE = b"14"


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


async def begun(
    play: Play, name: str, body: bytes = MESSAGE, fields: Fields = CALL, ended: bool = True, **more: Any
) -> tuple[Browser, Request]:
    """A call whose answer has begun with a message."""
    settings = more.pop("settings", None)
    browser = Browser(play, name, settings)
    stream_id = browser.asks(fields, False)
    if ended:
        browser.sends(stream_id, b"", True)
    else:
        browser.sends(stream_id, MESSAGE)
    await play.turn()
    request = play.hears_request()
    play.answers(request, **({"headers": GRPC} | more), body=body, ended=False)
    return browser, request


def told(events: list[Any]) -> tuple[bytes, dict[bytes, bytes]]:
    """The body that came, and the trailers after it, with which all has ended."""
    *_, last = events
    assert isinstance(last, Trailers), events
    return b"".join(event.data for event in events if isinstance(event, Body)), dict(last.fields)


# -- which, and how -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("bad_gateway", 14, b"The backend gave no valid answer."),
        ("gateway_timeout", 14, b"The backend took too long to answer."),
        ("stage_lost", 14, b"The stage that handled this request was lost."),
        ("overloaded", 14, b"The proxy is busy. Try again shortly."),
        ("internal", 2, b"The proxy failed to handle this request."),
        ("plugin_failed", 2, b"A plugin failed on this request."),
    ],
)
def test_the_status_is_that_of_a_whole_answer_with_the_same_error(kind: str, code: int, text: bytes) -> None:
    assert trailers_for(GRPC, GRPC, kind) == b"grpc-status: %d\r\ngrpc-message: The answer was cut off. %b\r\n" % (code, text)


@pytest.mark.parametrize("kind", ["client_closed", "request_timeout", "body_too_large", "nonsense", ""])
def test_what_the_client_has_done_itself_is_told_by_a_reset(kind: str) -> None:
    assert trailers_for(GRPC, GRPC, kind) == b""


@pytest.mark.parametrize("other", [b"", b"content-type: text/html\r\n", b"content-type: application/grpc-web\r\n"])
def test_where_either_side_is_not_grpc_nobody_would_look_at_a_status(other: bytes) -> None:
    assert trailers_for(GRPC, other, "bad_gateway") == trailers_for(other, GRPC, "bad_gateway") == b""


# -- carried out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", MESSAGE, MESSAGE + b"\0\0\0\0\x05he"], ids=["no message", "a message", "within a message"])
async def test_a_cut_answer_ends_with_a_status_after_what_has_come_of_it(play: Play, name: str, body: bytes) -> None:
    browser, request = await begun(play, name, body)
    play.streams(request, b"", error="bad_gateway")
    came, trailers = told(await browser.listens())
    assert came == body
    assert trailers == {b"grpc-status": UNAVAILABLE, b"grpc-message": b"The answer was cut off. The backend gave no valid answer."}
    assert (play.event.status, play.event.error, play.event.sent) == (200, "bad_gateway", len(body))
    assert play.is_holding == 0
    browser.asks()
    play.answers(next(e for _, e in play.stages_hear() if isinstance(e, Request)))
    assert not isinstance((await browser.listens())[-1], Reset), "the connection serves on"


async def test_the_stages_hear_that_nobody_wants_the_rest(play: Play, name: str) -> None:
    browser, request = await begun(play, name)
    play.streams(request, b"", error="bad_gateway")
    await browser.listens()
    assert len(play.hears_cancels()) == 3
    play.streams(request, b"late", ended=True)
    assert await browser.listens() == []


async def test_a_stage_that_dies_is_told_in_the_same_way(play: Play, name: str) -> None:
    browser, _ = await begun(play, name)
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (14, "upstream"))
    came, trailers = told(await browser.listens())
    assert (came, trailers[b"grpc-status"]) == (MESSAGE, UNAVAILABLE)
    assert play.event.error == "stage_lost"


async def test_a_stop_is_told_in_the_same_way(play: Play, name: str) -> None:
    browser, _ = await begun(play, name)
    await play.actor.stop()
    came, trailers = told([event for event in browser.hears() if not isinstance(event, wire.GoAway)])
    assert (came, trailers[b"grpc-status"]) == (MESSAGE, UNAVAILABLE)
    assert play.event.error == ""


async def test_a_client_that_still_streams_gets_its_status_and_what_it_sends_is_nobodys(play: Play, name: str) -> None:
    browser, request = await begun(play, name, ended=False)
    play.streams(request, b"", error="bad_gateway")
    came, trailers = told(await browser.listens())
    assert (came, trailers[b"grpc-status"]) == (MESSAGE, UNAVAILABLE)
    play.stages_hear()
    browser.sends(1, b"more")
    await play.passes(1)
    (end,) = await browser.listens()
    assert (end.stream_id, end.code) == (1, wire.NO_ERROR)
    assert play.hears_nothing()


async def test_what_waits_for_the_clients_window_comes_before_the_status_and_the_log_does_not_wait(play: Play, name: str) -> None:
    browser, request = await begun(play, name, MESSAGE * 10, settings=LocalSettings(window=25, connection_window=1 << 20))
    play.streams(request, b"", error="bad_gateway")
    events = await browser.listens()
    assert b"".join(event.data for event in events if isinstance(event, Body)) == (MESSAGE * 10)[:25]
    assert not isinstance(events[-1], Trailers | Reset)
    assert (play.event.error, play.is_holding) == ("bad_gateway", 0)
    for _ in range(3):
        browser.engine.acknowledge(1, 25)
        browser.speaks()
        events += await browser.listens()
    came, trailers = told(events)
    assert (came, trailers[b"grpc-status"]) == (MESSAGE * 10, UNAVAILABLE)
    assert len(play.events) == 1


async def test_while_it_waits_nothing_more_is_asked_of_its_client_or_taken_from_it(play: Play, name: str) -> None:
    browser, request = await begun(play, name, MESSAGE * 10, ended=False, settings=LocalSettings(window=25, connection_window=1 << 20))
    play.grants(request, 1000)
    await play.turn()
    play.stages_hear()
    play.streams(request, b"", error="bad_gateway")
    events = await browser.listens()
    play.stages_hear()
    browser.sends(1, b"more")
    for _ in range(3):
        await play.passes(25)
        browser.engine.acknowledge(1, 25)
        browser.speaks()
        events += await browser.listens()
    came, trailers = told(events)
    assert (came, trailers[b"grpc-status"]) == (MESSAGE * 10, UNAVAILABLE)
    assert play.hears_nothing()
    assert len(play.events) == 1


async def test_an_answer_that_had_come_to_its_end_keeps_its_own_status_when_its_upstream_dies(play: Play, name: str) -> None:
    browser, request = await begun(play, name, MESSAGE * 10, settings=LocalSettings(window=25, connection_window=1 << 20))
    play.tell(Data(request.sid, b"", True, "", False, None, b"grpc-status: 0\r\n"))
    told = await browser.listens()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (14, "upstream"))
    for _ in range(100):
        if isinstance(told[-1], Trailers):
            break
        browser.engine.acknowledge(1, 25)
        browser.speaks()
        told += await browser.listens()
    assert b"".join(event.data for event in told if isinstance(event, Body)) == MESSAGE * 10
    assert [event.fields for event in told if isinstance(event, Trailers)] == [((b"grpc-status", b"0"),)]
    assert not any(isinstance(event, Reset) for event in told)
    assert [event.error for event in play.events] == [""]


@pytest.mark.parametrize("how", ["resets", "leaves", "waits"])
async def test_a_client_that_does_not_take_what_waits_is_logged_once(play: Play, name: str, how: str) -> None:
    browser, request = await begun(play, name, MESSAGE * 10, settings=LocalSettings(window=25, connection_window=1 << 20))
    play.streams(request, b"", error="bad_gateway")
    await browser.listens()
    if how == "resets":
        browser.resets(1)
    elif how == "leaves":
        browser.client.resets()
    else:
        await play.passes(62)
        (end,) = await browser.listens()
        assert (end.stream_id, end.code) == (1, wire.CANCEL)
    await play.turn()
    assert [event.error for event in play.events] == ["bad_gateway"]
    assert play.is_holding == 0


@pytest.mark.parametrize(
    ("fields", "more"),
    [(POST, {}), (CALL, {"headers": b"content-type: text/plain\r\n"}), (CALL, {"length": 100})],
    ids=["no call", "no answer in gRPC", "an announced length"],
)
async def test_any_other_answer_is_reset(play: Play, name: str, fields: Fields, more: dict[str, Any]) -> None:
    browser, request = await begun(play, name, fields=fields, **more)
    play.streams(request, b"", error="bad_gateway")
    *_, last = await browser.listens()
    assert isinstance(last, Reset) and last.code == wire.INTERNAL_ERROR


async def test_a_body_of_the_client_that_stops_is_its_own_doing(play: Play, name: str) -> None:
    browser, request = await begun(play, name, ended=False)
    play.grants(request, 1000)
    await browser.listens()
    await play.passes(70)
    *_, last = await browser.listens()
    assert isinstance(last, Reset) and last.code == wire.INTERNAL_ERROR
    assert play.event.error == "request_timeout"


# -- gRPC-Web, whose status is in the body -----------------------------------------------------------------

WEB = b"content-type: application/grpc-web\r\n"
LAST = b"\x80\0\0\0\x11grpc-status: 14\r\n"


def breaks_off(play: Play, request: Request, last: bytes) -> None:
    play.tell(Data(request.sid, last, False, "bad_gateway"))


async def test_a_body_that_says_that_it_was_cut_ends_in_order(play: Play, name: str) -> None:
    browser, request = await begun(play, name, headers=WEB, ended=True)
    breaks_off(play, request, LAST)
    *_, last = told_all = await browser.listens()
    assert isinstance(last, Body) and last.ended
    assert b"".join(event.data for event in told_all if isinstance(event, Body)) == MESSAGE + LAST
    assert (play.event.status, play.event.error, play.event.sent) == (200, "bad_gateway", len(MESSAGE)), "the log does not wait for the end"
    assert play.is_holding == 0


async def test_without_such_an_end_it_is_reset(play: Play, name: str) -> None:
    browser, request = await begun(play, name, headers=WEB)
    breaks_off(play, request, b"")
    assert isinstance((await browser.listens())[-1], Reset)


@pytest.mark.parametrize(("version", "framed"), [(b"1.1", b"16\r\n%b\r\n0\r\n\r\n" % LAST), (b"1.0", LAST)])
async def test_over_http1_it_ends_in_order_too_and_with_it_the_connection(play: Play, version: bytes, framed: bytes) -> None:
    client = play.connects()
    client.says(b"POST / HTTP/%b\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n" % version)
    request = play.hears_request()
    play.answers(request, headers=WEB, body=MESSAGE, ended=False)
    client.hears()
    breaks_off(play, request, LAST)
    assert client.hears() == framed
    assert client.is_closed and not client.transport.was_reset
    assert (play.event.status, play.event.error, play.event.sent) == (200, "bad_gateway", len(MESSAGE + LAST))


async def test_a_call_that_was_cut_is_told_once_whatever_its_client_says_afterwards(play: Play, name: str) -> None:
    settings = LocalSettings(window=len(MESSAGE), connection_window=16 * WINDOW)
    browser, request = await begun(play, name, ended=False, settings=settings)
    play.streams(request, MESSAGE)  # waits for the client's window
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (14, "upstream"))
    assert play.event.error == "stage_lost"
    browser.engine.send_trailers(1, ((b":path", b"/"),))  # no trailer is called so
    browser.speaks()
    await play.turn()
    assert len(play.events) == 1
    assert play.is_holding == 0
