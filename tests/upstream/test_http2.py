"""Exchanges that share HTTP/2 connections: streams, room, flow, and every way in which one or all of them end."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pingap.config.model import Upstream
from pingap.config.parts import Backend as Address
from pingap.stages.http2.engine import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, LocalSettings
from pingap.stages.messages import UNKNOWN, WINDOW, Credit, Data, Response
from pingap.stages.upstream import http2
from pingap.stages.upstream.http2 import OURS
from tests.upstream.playbook import ACCEPT, OK, PENDING_TIMEOUT, Http2Link, Play, report_of


@pytest.fixture(params=["h2", "ngh2"], autouse=True)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name)
    return name


@pytest.fixture
def serves(play: Play, engine_name: str) -> Any:
    def serve(addrs: str = "a:1", algo: str = "least_conn", **more: Any) -> Any:
        return play.serves(addrs, algo, **({"alpn": "h2", "http2_engine": engine_name} | more))

    return serve


def peer(play: Play, address: str = "a:1", number: int = -1) -> Http2Link:
    link = play.backend(address).links[number]
    assert isinstance(link, Http2Link)
    return link


async def heard(play: Play, address: str = "a:1", number: int = -1) -> tuple[Http2Link, list[int]]:
    """The connection, and the streams that are new on it."""
    await play.turn()
    link = peer(play, address, number)
    streams = link.listens()
    await play.turn()
    return link, streams


async def served(play: Play) -> Http2Link:
    """One whole exchange."""
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.answers(stream)
    assert play.hears_response(sid).status == 200
    return link


# -- sharing ------------------------------------------------------------------------------------


async def test_requests_at_the_same_time_share_a_connection_and_answers_keep_to_them(play: Play, serves: Any) -> None:
    serves()
    sids = [play.asks(target=b"/%d" % number) for number in range(5)]
    link, streams = await heard(play)
    assert play.backend().asked == 1
    assert [link.streams[stream][b":path"] for stream in streams] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    for sid, stream in reversed(list(zip(sids, streams, strict=True))):
        link.answers(stream, link.streams[stream][b":path"])
        response = play.hears_response(sid)
        assert (response.status, response.ended) == (200, True)
        assert response.body == b"/%d" % sids.index(sid)


async def test_a_request_is_sent_as_http2_has_it(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks(b"POST", b"/a?b", b"host: example\r\nx-one: 1\r\nte: trailers\r\n", body=b"order")
    link, (stream,) = await heard(play)
    assert link.streams[stream] == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/a?b",
        b":authority": b"example",
        b"x-one": b"1",
        b"te": b"trailers",
        b"content-length": b"5",
    }
    assert (link.bodies[stream], link.ended) == (b"order", {stream})
    link.answers(stream)
    play.hears_response(sid)


async def test_the_first_of_those_that_share_a_connect_pays_for_it(play: Play, serves: Any) -> None:
    serves()
    play.backend().hangs = True
    sids = [play.asks(), play.asks()]
    await play.turn()
    play.clock.now += 0.25
    play.backend().answers_dials()
    link, streams = await heard(play)
    for stream in streams:
        link.answers(stream)
    reports = [envelope.report for _, envelope in play.hears()]
    assert [(report.connect, report.reused) for report in reports] == [((0.25,), False), ((), True)]
    assert len(sids) == len(streams) == 2


async def test_one_that_leaves_while_connecting_leaves_the_connect_to_the_others(play: Play, serves: Any) -> None:
    serves()
    play.backend().hangs = True
    first, second = play.asks(), play.asks(target=b"/second")
    await play.turn()
    play.cancels(first)
    await play.turn()
    assert play.backend().dialing == 1
    play.backend().answers_dials()
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":path"] == b"/second"
    link.answers(stream)
    play.hears_response(second)


async def test_the_last_one_that_leaves_calls_the_connect_off(play: Play, serves: Any) -> None:
    serves()
    play.backend().hangs = True
    for sid in [play.asks(), play.asks()]:
        await play.turn()
        play.cancels(sid)
    await play.turn()
    assert (play.backend().dialing, play.state().open) == (0, 0)


async def test_a_connect_that_fails_fails_for_all_that_waited_and_each_goes_elsewhere(play: Play, serves: Any) -> None:
    serves("a:1 b:1", "round_robin")
    play.health(api={"a:1": True, "b:1": False})
    play.backend("a:1").refuses = ConnectionRefusedError("no")
    sids = [play.posts(), play.posts(), play.posts()]
    play.health(api={})
    link, streams = await heard(play, "b:1")
    assert (play.backend("a:1").asked, play.backend("b:1").asked, len(streams)) == (1, 1, 3)
    for sid, stream in zip(sids, streams, strict=True):
        link.answers(stream)
        assert play.hears_response(sid).status == 200


async def test_what_has_no_room_on_a_connection_gets_another(play: Play, serves: Any) -> None:
    serves(max_h2_streams=2)
    sids = [play.asks(target=b"/%d" % number) for number in range(5)]
    await play.turn()
    links = [peer(play, number=number) for number in range(3)]
    counts = []
    for link in links:
        streams = link.listens()
        counts.append(len(streams))
        for stream in streams:
            link.answers(stream)
    assert counts == [2, 2, 1]
    assert sorted(envelope.sid for _, envelope in play.hears()) == sids
    assert len(play.state().shared) == 3


async def test_at_the_cap_requests_wait_for_streams_and_each_that_ends_lets_the_next_in(play: Play, serves: Any) -> None:
    serves(max_h2_streams=2, max_connections=1)
    sids = [play.asks(target=b"/%d" % number) for number in range(4)]
    link, streams = await heard(play)
    assert len(streams) == 2
    link.answers(streams[1])
    assert play.hears_response(sids[1]).status == 200
    link, (third,) = await heard(play)
    assert link.streams[third][b":path"] == b"/2"
    play.cancels(sids[0])
    link, (fourth,) = await heard(play)
    assert link.streams[fourth][b":path"] == b"/3"
    for stream, sid in ((third, sids[2]), (fourth, sids[3])):
        link.answers(stream)
        play.hears_response(sid)


async def test_those_for_whom_no_stream_comes_free_are_told_so(play: Play, serves: Any) -> None:
    serves(max_h2_streams=1, max_connections=1, max_pending=1)
    held, waits, refused = play.asks(), play.asks(), play.asks()
    await play.turn()
    assert play.hears_response(refused).status == 503
    await play.passes(PENDING_TIMEOUT + 0.5)
    assert play.hears_response(waits).status == 503
    play.cancels(held)


async def test_a_backend_that_allows_fewer_streams_gets_no_more_and_this_is_remembered(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(max_streams=1)
    await served(play)
    sids = [play.asks(), play.asks()]
    await play.turn()
    first, second = peer(play, number=0), peer(play, number=1)
    assert (len(first.listens()), len(second.listens())) == (1, 1)
    assert play.state().streams == 1
    for sid in sids:
        play.cancels(sid)


async def test_connections_that_nobody_uses_are_closed_in_time_and_with_a_goodbye(play: Play, serves: Any) -> None:
    serves(idle_timeout=60.0)
    link = await served(play)
    await play.passes(59)
    assert not link.is_closed
    await play.passes(2)
    link.listens()
    assert (link.goodbye, link.is_closed, play.state().open) == (NO_ERROR, True, 0)


async def test_a_connection_in_use_is_not_idle_however_long(play: Play, serves: Any) -> None:
    serves(idle_timeout=5.0)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    for _ in range(5):
        await play.passes(4)
        link.sends(stream, b"event")
    assert not link.is_closed
    play.cancels(sid)


async def test_without_keeping_idle_ones_a_connection_closes_after_its_last_stream(play: Play, serves: Any) -> None:
    serves(idle_timeout=0.0)
    sids = [play.asks(), play.asks()]
    link, streams = await heard(play)
    link.answers(streams[0])
    play.hears_response(sids[0])
    assert not link.is_closed
    link.answers(streams[1])
    play.hears_response(sids[1])
    assert link.is_closed


async def test_a_reload_lets_streams_finish_on_the_old_connection(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    old = play.generation
    serves(remark="changed")
    link.answers(stream)
    assert play.hears_response(sid).status == 200
    assert link.is_closed
    assert play.generation == old + 1
    play.asks()
    link, (stream,) = await heard(play)
    assert play.backend().asked == 2
    link.answers(stream)
    play.hears()


async def test_the_pool_of_all_counts_a_shared_connection_as_one(play: Play, engine_name: str) -> None:
    h2 = Upstream(addrs=(Address("a", 1),), alpn="h2", http2_engine=engine_name)  # type: ignore[arg-type]
    play.serves("b:1", basic={"upstream_keepalive_pool_size": 1}, more={"other": h2})
    sid = play.asks(upstream="other")
    link, (stream,) = await heard(play)
    link.answers(stream)
    play.hears_response(sid)
    play.clock.now += 1
    sid = play.asks()
    await play.turn()
    play.backend("b:1").link.says(OK)
    play.hears_response(sid)
    await play.passes(0.5)
    assert link.is_closed
    assert not play.backend("b:1").link.is_closed


# -- retries ------------------------------------------------------------------------------------


async def test_a_refused_stream_is_asked_again_whatever_the_method(play: Play, serves: Any) -> None:
    serves()
    sids = [play.asks(), play.posts()]
    link, (_, stream) = await heard(play)
    link.drops(stream, REFUSED_STREAM)
    assert play.hears_nothing()
    await play.turn()
    again = peer(play, number=1)
    (stream,) = again.listens()
    assert again.bodies[stream] == b"order"
    again.answers(stream)
    assert play.hears_response(sids[1]).status == 200
    assert play.context.counted == {"upstream_failures": 1, "retries": 1}
    play.cancels(sids[0])


async def test_a_backend_that_refuses_all_is_asked_a_few_times_only(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    for _ in range(4):
        link, (stream,) = await heard(play)
        link.drops(stream, REFUSED_STREAM)
    response = play.hears_response(sid)
    assert (response.status, report_of(response).tries) == (502, 4)


async def test_another_backend_is_preferred_to_one_that_refused(play: Play, serves: Any) -> None:
    serves("a:1 b:1", "round_robin")
    play.health(api={"b:1": False})
    sid = play.asks()
    link, (stream,) = await heard(play)
    play.health(api={})
    link.drops(stream, REFUSED_STREAM)
    other, (stream,) = await heard(play, "b:1")
    other.answers(stream)
    play.hears_response(sid)
    assert play.backend("a:1").asked == 1


async def test_an_upload_of_which_nothing_came_yet_is_begun_again_elsewhere(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads(headers=b"host: example\r\n")
    link, (stream,) = await heard(play)
    assert play.hears_credit(sid) == WINDOW
    play.backend().hangs = True
    link.leaves(0)
    await play.turn()
    assert play.backend().dialing == 1
    play.sends(sid, b"meanwhile ")  # it has credit, and nothing to go to yet
    play.backend().answers_dials()
    link, (stream,) = await heard(play)
    play.sends(sid, b"and after", ended=True)
    await heard(play)
    assert (link.bodies[stream], link.ended) == (b"meanwhile and after", {stream})
    link.answers(stream)
    assert play.hears_response(sid).body == b"ok"


@pytest.mark.parametrize("ended", [False, True])
async def test_an_upload_that_has_begun_cannot_be_asked_again(play: Play, serves: Any, ended: bool) -> None:
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    play.hears_credit(sid)
    play.sends(sid, b"" if ended else b"bytes", ended=ended)
    await heard(play)
    link.drops(stream, REFUSED_STREAM)
    assert play.hears_response(sid).status == 502


async def test_goaway_lets_what_it_has_finish_and_the_rest_goes_to_a_new_connection(play: Play, serves: Any) -> None:
    serves()
    old, untouched = play.posts(target=b"/old"), play.posts(target=b"/untouched")
    link, (first, _) = await heard(play)
    link.leaves(first)
    new = play.asks(target=b"/new")
    await play.turn()
    assert not link.is_closed
    other = peer(play)
    assert other is not link
    streams = other.listens()
    assert sorted(other.streams[stream][b":path"] for stream in streams) == [b"/new", b"/untouched"]
    link.answers(first)
    assert play.hears_response(old).status == 200
    assert link.is_closed
    for stream in streams:
        other.answers(stream)
    assert sorted(envelope.sid for _, envelope in play.hears()) == [untouched, new]


async def test_goaway_in_two_steps_loses_nothing(play: Play, serves: Any) -> None:
    serves()
    sid = play.posts()
    link, (stream,) = await heard(play)
    link.leaves(2**31 - 1)
    assert play.hears_nothing()
    assert not link.is_closed
    link.leaves(stream)
    link.answers(stream)
    assert play.hears_response(sid).status == 200
    assert link.is_closed


async def test_goaway_on_an_idle_connection_closes_it(play: Play, serves: Any) -> None:
    serves()
    link = await served(play)
    link.leaves(1)
    assert link.is_closed
    await served(play)
    assert play.backend().asked == 2


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_connection_that_is_lost_is_for_each_stream_what_it_is_for_http1(play: Play, serves: Any, how: str) -> None:
    serves()
    await served(play)
    begun, safe, unsafe = play.asks(), play.asks(target=b"/safe"), play.posts()
    link, streams = await heard(play)
    link.starts(streams[0])
    assert play.hears_response(begun).status == 200
    getattr(link, how)()
    await play.turn()
    told = {envelope.sid: envelope for _, envelope in play.hears()}
    assert (told[begun].ended, told[begun].error) == (False, "bad_gateway")
    assert told[unsafe].status == 502
    assert safe not in told
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":path"] == b"/safe"
    link.answers(stream)
    assert play.hears_response(safe).status == 200


async def test_a_fresh_connection_that_is_lost_is_no_reason_to_ask_again(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, _ = await heard(play)
    link.closes()
    assert play.hears_response(sid).status == 502


# -- answers ------------------------------------------------------------------------------------


async def test_bodies_without_length_and_trailers_come_through(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream, 200, (b"content-type", b"text/plain"))
    response = play.hears_response(sid)
    assert (response.length, response.ended, response.headers) == (UNKNOWN, False, b"content-type: text/plain\r\n")
    link.sends(stream, b"one")
    link.engine.send_trailers(stream, ((b"grpc-status", b"0"), (b"authorization", b"x")))
    link.speaks()
    heard_data = [envelope for _, envelope in play.hears()]
    assert [(data.payload, data.ended, data.trailers) for data in heard_data] == [
        (b"one", False, b""),
        (b"", True, b"grpc-status: 0\r\n"),
    ]


@pytest.mark.parametrize("trailers", [((b"grpc-status", b"0"),), ()])
async def test_trailers_right_after_the_head_are_trailers(play: Play, serves: Any, trailers: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.engine.send_head(stream, ((b":status", b"200"),), False)
    link.engine.send_trailers(stream, trailers or ((b"authorization", b"dropped"),))
    link.speaks()
    (_, response), *rest = play.hears()
    assert (response.sid, response.status, response.ended) == (sid, 200, not trailers)
    assert [(data.payload, data.ended, data.trailers) for _, data in rest] == ([(b"", True, b"grpc-status: 0\r\n")] if trailers else [])


async def test_trailers_of_the_request_reach_the_backend(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    await play.turn()
    play.tell(Data(sid, b"body", False, "", True))
    play.tell(Data(sid, b"", True, "", True, None, b"x-sum: 1\r\n"))
    link, (stream,) = await heard(play)
    assert (link.bodies[stream], link.trailers[stream]) == (b"body", ((b"x-sum", b"1"),))
    link.answers(stream)
    play.hears()


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_answers_without_a_body(play: Play, serves: Any, method: bytes, status: int) -> None:
    serves()
    sid = play.asks(method)
    link, (stream,) = await heard(play)
    more = () if status == 204 else ((b"content-length", b"100"),)
    link.starts(stream, status, *more, ended=True)
    response = play.hears_response(sid)
    assert (response.status, response.length, response.body, response.ended) == (status, 100 if more else UNKNOWN, b"", True)


async def test_an_empty_answer_has_the_length_zero(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream, 404, ended=True)
    response = play.hears_response(sid)
    assert (response.status, response.length, response.ended) == (404, 0, True)


async def test_interim_answers_pass_but_the_one_that_is_ours(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream, 100)
    link.starts(stream, 103, (b"link", b"</a>"))
    assert play.hears_nothing()
    assert [(interim.sid, interim.status, interim.headers) for interim in play.interims] == [(sid, 103, b"link: </a>\r\n")]
    link.answers(stream)
    assert play.hears_response(sid).body == b"ok"


async def test_interim_answers_without_end_are_no_answer(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    for _ in range(101):
        link.starts(stream, 103)
    assert play.hears_response(sid).status == 502
    await heard(play)
    assert not link.is_closed
    assert stream in link.reset


@pytest.mark.parametrize(
    "fields",
    [
        ((b"connection", b"close"),),
        ((b"x-bad", b"a\r\nset-cookie: b"),),
        ((b"content-length", b"1"), (b"content-length", b"2")),
    ],
    ids=["connection", "CR LF", "two lengths"],
)
async def test_a_head_that_breaks_the_rules_is_a_bad_gateway_and_the_others_go_on(play: Play, serves: Any, fields: Any) -> None:
    serves()
    bad, good = play.asks(), play.asks()
    link, (first, second) = await heard(play)
    link.starts(first, 200, *fields)
    assert play.hears_response(bad).status == 502
    link.answers(second)
    assert play.hears_response(good).status == 200
    await heard(play)
    assert link.reset == {first: PROTOCOL_ERROR}
    assert not link.is_closed


async def test_a_body_unlike_its_length_never_looks_complete(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream, 200, (b"content-length", b"10"))
    assert play.hears_response(sid).length == 10
    link.sends(stream, b"short", ended=True)
    assert play.hears_data(sid)[-1] == (b"", False, "bad_gateway")


@pytest.mark.parametrize("code", [INTERNAL_ERROR, CANCEL, NO_ERROR])
async def test_a_stream_reset_before_its_answer_is_a_bad_gateway(play: Play, serves: Any, code: int) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.drops(stream, code)
    response = play.hears_response(sid)
    assert (response.status, report_of(response).tries) == (502, 1)
    assert not link.is_closed


@pytest.mark.parametrize("begun", [False, True], ids=["before", "within"])
@pytest.mark.parametrize(
    ("timeout", "passed", "kind"),
    [(b"grpc-timeout: 300m\r\n", 0.4, "deadline_exceeded"), (b"grpc-timeout: 5S\r\n", 0.4, "call_cancelled"), (b"", 0.4, "call_cancelled")],
    ids=["its time is up", "earlier", "no deadline"],
)
async def test_a_call_that_its_server_cancels_is_told_from_an_outage(
    play: Play, serves: Any, timeout: bytes, passed: float, kind: str, begun: bool
) -> None:
    """Servers in Go reset a call whose deadline has passed, often before the client's own timer has said so."""
    serves()
    sid = play.asks(b"POST", headers=b"host: example\r\ncontent-type: application/grpc\r\n" + timeout)
    link, (stream,) = await heard(play)
    if begun:
        link.starts(stream, 200, (b"content-type", b"application/grpc"))
        play.hears_response(sid)
    await play.passes(passed)
    link.drops(stream, CANCEL)
    if begun:
        assert play.hears_data(sid) == [(b"", False, kind)]
    else:
        assert report_of(play.hears_response(sid)).error == kind
    assert not [entry for entry in play.context.logged if entry[0] == "warn"], "it is everyday"


@pytest.mark.parametrize("code", [INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM])
async def test_a_stream_reset_within_its_answer_never_looks_complete(play: Play, serves: Any, code: int) -> None:
    serves()
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    link.sends(stream, b"some")
    link.drops(stream, code)
    (_, response), *rest = play.hears()
    assert response.status == 200
    assert [(data.payload, data.ended, data.error) for _, data in rest] == [(b"some", False, ""), (b"", False, "bad_gateway")]
    assert rest[0][1].sid == sid
    ((level, message, fields),) = play.context.logged
    assert (level, message) == ("warn", "answer cut off")
    assert fields["detail"].startswith("stream reset")


async def test_an_answer_before_the_end_of_the_upload_ends_the_stream_and_not_the_connection(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    play.hears_credit(sid)
    play.sends(sid, b"some")
    await heard(play)
    link.answers(stream, b"no", 413)
    assert play.hears_response(sid).status == 413
    link.drops(stream, NO_ERROR)  # as RFC 9113 section 8.1 has it
    await heard(play)
    assert not link.is_closed
    await served(play)
    assert play.backend().asked == 1


async def test_a_cancelled_request_is_reset_and_the_connection_goes_on(play: Play, serves: Any) -> None:
    serves()
    gone, stays = play.asks(), play.asks()
    link, (first, second) = await heard(play)
    play.cancels(gone)
    await heard(play)
    assert link.reset == {first: CANCEL}
    link.answers(second)
    assert play.hears_response(stays).status == 200
    await served(play)
    assert play.backend().asked == 1


# -- flow ----------------------------------------------------------------------------------------


async def test_a_slow_client_holds_its_own_stream_and_no_other(play: Play, serves: Any) -> None:
    serves()
    slow, other = play.asks(), play.asks()
    link, (first, second) = await heard(play)
    link.starts(first)
    play.hears()
    sent = 0
    for _ in range(40):
        sent += link.sends(first, b"x" * WINDOW)
        await heard(play)
    got = sum(len(payload) for payload, _, _ in play.hears_data(slow))
    assert got == sent
    assert WINDOW <= sent <= WINDOW + OURS.window
    link.answers(second)
    assert play.hears_response(other).body == b"ok"
    play.credits(slow, WINDOW)
    for _ in range(40):
        sent += link.sends(first, b"x" * WINDOW)
        await heard(play)
    assert 2 * WINDOW <= sent <= 2 * WINDOW + OURS.window
    play.hears()
    play.cancels(slow)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection's window that is used up by what sixteen streams hold."""
    monkeypatch.setattr(http2, "OURS", OURS._replace(connection_window=16 * OURS.window))


@pytest.mark.usefixtures("narrow")
async def test_streams_that_are_held_leave_room_on_the_connection(play: Play, serves: Any) -> None:
    """Even after many that were cut off while they were held: their bytes go back to the connection's window."""
    serves()
    for _ in range(12):
        sids = [play.asks(), play.asks()]
        link, streams = await heard(play)
        for stream in streams:
            link.starts(stream)
            for _ in range(12):
                link.sends(stream, b"x" * WINDOW)
                await heard(play)
        play.hears()
        for sid in sids:
            play.cancels(sid)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    assert link.engine.room(stream) >= OURS.window // 2
    play.hears()
    play.cancels(sid)


@pytest.mark.usefixtures("narrow")
async def test_bodies_that_end_while_they_are_held_leave_room_on_the_connection(play: Play, serves: Any) -> None:
    serves()
    for _ in range(50):
        sid = play.asks()
        link, (stream,) = await heard(play)
        link.starts(stream)
        left = WINDOW + OURS.window * 3 // 8  # more than the client has room for
        for _ in range(60):
            if left:
                left -= link.sends(stream, b"x" * left, ended=True)
            await heard(play)
        assert not left
        assert play.hears()[-1][1].ended
        play.credits(sid, WINDOW)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    assert link.engine.room(stream) >= OURS.window // 2
    play.hears()
    play.cancels(sid)


async def test_an_upload_waits_for_the_backends_window_and_asks_for_no_more_meanwhile(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    link.acknowledges = False
    assert play.hears_credit(sid) == WINDOW
    body = bytes(range(256)) * 4096
    for at in range(0, len(body), 65536):
        play.sends(sid, body[at : at + 65536])
    await heard(play)
    window = LocalSettings().window
    assert link.bodies[stream] == body[:window]
    granted = play.hears_credit(sid)
    assert granted <= window
    for _ in range(40):
        link.engine.acknowledge(stream, window)
        link.speaks()
        await heard(play)
    assert link.bodies[stream] == body
    assert play.hears_credit(sid) + granted == len(body)
    play.sends(sid, b"end", ended=True)
    await heard(play)
    assert link.bodies[stream] == body + b"end"
    assert stream in link.ended
    link.answers(stream)
    play.hears_response(sid)


async def test_uploads_take_turns_where_the_connection_has_little_room(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(window=256 * 1024, connection_window=256 * 1024)
    sids = [play.uploads(), play.uploads()]
    link, streams = await heard(play)
    link.acknowledges = False
    play.hears()
    for sid in sids:
        play.sends(sid, b"u" * 512 * 1024)
    for _ in range(40):
        await heard(play)
        for stream in streams:
            link.engine.acknowledge(stream, 64 * 1024)
        link.speaks()
    assert [len(link.bodies[stream]) for stream in streams] == [512 * 1024, 512 * 1024]
    for sid in sids:
        play.cancels(sid)


async def test_a_socket_that_takes_nothing_holds_uploads_until_it_does(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(window=8 * WINDOW, connection_window=16 * WINDOW)
    sid = play.uploads()
    link, (stream,) = await heard(play)
    play.hears_credit(sid)
    link.stops_reading()
    for _ in range(4):
        play.sends(sid, b"u" * 256 * 1024)
        await play.turn()
    assert link.transport.get_write_buffer_size() < WINDOW
    play.hears()
    link.reads()
    await heard(play)
    assert len(link.bodies[stream]) == WINDOW
    assert play.hears_credit(sid) >= WINDOW // 2
    play.cancels(sid)


# -- time ----------------------------------------------------------------------------------------


async def test_a_stream_that_waits_too_long_ends_and_the_connection_lives_if_anything_came(play: Play, serves: Any) -> None:
    serves(read_timeout=10.0)
    silent, talks = play.asks(), play.asks()
    link, (first, second) = await heard(play)
    link.starts(second)
    assert play.hears_response(talks).status == 200
    for _ in range(6):
        await play.passes(2)
        link.sends(second, b"event")
    heard_now = play.hears()
    (failed,) = [envelope for _, envelope in heard_now if isinstance(envelope, Response)]
    assert (failed.sid, failed.status) == (silent, 504)
    await heard(play)
    assert link.reset == {first: CANCEL}
    assert not link.is_closed
    play.cancels(talks)


async def test_a_connection_on_which_nothing_comes_any_more_is_given_up(play: Play, serves: Any) -> None:
    serves(read_timeout=10.0)
    await served(play)
    play.clock.now += 5
    sid = play.asks()
    link, _ = await heard(play)
    await play.passes(9)
    later = play.asks(target=b"/later")
    await play.passes(1.5)
    assert [envelope.status for _, envelope in play.hears() if envelope.sid == sid] == [504]
    assert link.is_closed
    other, (stream,) = await heard(play)
    assert other.streams[stream][b":path"] == b"/later"
    other.answers(stream)
    assert play.hears_response(later).status == 200


async def test_a_body_that_stops_in_the_middle_is_cut_off(play: Play, serves: Any) -> None:
    serves(read_timeout=10.0)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    play.hears()
    await play.passes(9)
    link.sends(stream, b"x")
    await play.passes(9)
    assert play.hears_data(sid) == [(b"x", False, "")]
    await play.passes(2)
    assert play.hears_data(sid) == [(b"", False, "gateway_timeout")]


async def test_a_client_that_is_slow_costs_the_backend_no_time(play: Play, serves: Any) -> None:
    serves(read_timeout=10.0)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.starts(stream)
    for _ in range(40):
        link.sends(stream, b"x" * WINDOW)
        await heard(play)
    play.hears()
    await play.passes(60)
    assert play.hears_nothing()
    play.cancels(sid)


async def test_a_backend_that_opens_no_window_is_given_up(play: Play, serves: Any) -> None:
    serves(write_timeout=10.0)
    sid = play.uploads()
    link, (stream,) = await heard(play)
    link.acknowledges = False
    play.sends(sid, b"u" * WINDOW)
    await heard(play)
    play.hears()
    await play.passes(8)
    link.engine.acknowledge(stream, LocalSettings().window)
    link.speaks()
    await heard(play)
    await play.passes(8)
    play.hears()
    await play.passes(4)
    assert play.hears_response(sid).status == 504


async def test_a_socket_that_takes_little_is_slow_and_one_that_takes_nothing_is_dead(play: Play, serves: Any) -> None:
    serves(write_timeout=10.0)
    play.backend().settings = LocalSettings(window=8 * WINDOW, connection_window=16 * WINDOW)
    sid = play.uploads()
    link, _ = await heard(play)
    link.stops_reading()
    for _ in range(3):
        play.sends(sid, b"u" * 256 * 1024)
        await play.turn()
    play.hears()
    for _ in range(5):
        await play.passes(8)
        link.reads(1000)
    assert play.hears_nothing()
    await play.passes(21)
    assert play.hears_response(sid).status == 504


# -- tunnels --------------------------------------------------------------------------------------

KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def switches(play: Play, headers: bytes = b"host: example\r\nsec-websocket-version: 13\r\n" + KEY, version: int = 11) -> int:
    return play.asks(headers=headers, upgrade=b"websocket", plan=4, version=version)


async def test_a_tunnel_of_a_client_of_http2_gets_a_key_of_ours(play: Play, serves: Any) -> None:
    """The backend may be a proxy that goes on in HTTP/1.1, and has none of its own (Envoy)."""
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play, b"host: example\r\nsec-websocket-version: 13\r\n", version=20)
    link, (stream,) = await heard(play)
    assert len(base64.b64decode(link.streams[stream][b"sec-websocket-key"])) == 16
    link.starts(stream, 200, (b"sec-websocket-accept", b"whatever"))
    ((_, response), _) = play.hears()
    assert (response.sid, response.status, response.headers) == (sid, 101, b"")
    play.sends(sid, b"", ended=True)
    link.sends(stream, b"", ended=True)


async def test_a_handshake_of_http1_without_a_key_gets_none(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play, b"host: example\r\n")
    link, (stream,) = await heard(play)
    assert b"sec-websocket-key" not in link.streams[stream]
    play.cancels(sid)


async def test_an_upgrade_with_a_body_is_an_ordinary_request_where_all_is_http2(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = play.posts(b"{json}", upgrade=b"tcp")
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":method"] == b"POST" and b":protocol" not in link.streams[stream]
    assert link.bodies[stream] == b"{json}"
    link.starts(stream, 200, ended=True)
    assert play.hears_response(sid).status == 200


async def test_an_upgrade_becomes_a_tunnel(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    assert link.streams[stream] == {
        b":method": b"CONNECT",
        b":protocol": b"websocket",
        b":scheme": b"http",
        b":path": b"/",
        b":authority": b"example",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": KEY.split()[1],
    }
    assert stream not in link.ended
    link.starts(stream, 200, (b"sec-websocket-protocol", b"chat"))
    (to, response), (_, credit) = play.hears()
    assert (to, response.status, response.length, response.ended) == (ACCEPT, 101, UNKNOWN, False)
    assert response.headers == b"sec-websocket-protocol: chat\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    assert isinstance(credit, Credit)
    play.sends(sid, b"ping")
    await heard(play)
    assert link.bodies[stream] == b"ping"
    link.sends(stream, b"pong")
    assert play.hears_data(sid) == [(b"pong", False, "")]
    link.sends(stream, b"", ended=True)
    assert play.hears_data(sid) == [(b"", True, "")]
    play.sends(sid, b"last", ended=True)
    await heard(play)
    assert (link.bodies[stream], stream in link.ended, link.reset) == (b"pinglast", True, {})
    assert not link.is_closed


async def test_the_client_may_end_its_half_of_a_tunnel_first(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play, b"host: example\r\n")
    link, (stream,) = await heard(play)
    link.starts(stream)
    (_, response), _ = play.hears()
    assert response.headers == b""
    play.sends(sid, b"last", ended=True)
    await heard(play)
    assert stream in link.ended
    link.sends(stream, b"answer", ended=True)
    assert play.hears_data(sid) == [(b"answer", True, "")]
    await heard(play)
    assert link.reset == {}


async def test_a_refused_upgrade_is_an_ordinary_answer(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    link.answers(stream, b"no", 403)
    ((_, response),) = play.hears()
    assert (response.sid, response.status, response.body, response.ended) == (sid, 403, b"no", True)
    await heard(play)
    assert stream in link.reset, "our half of the stream is not open for ever"


async def test_a_backend_without_extended_connect_is_a_bad_gateway_that_the_log_explains(play: Play, serves: Any) -> None:
    serves()
    await served(play)
    sid = switches(play)
    ((_, response),) = play.hears()
    assert (response.sid, response.status) == (sid, 502)
    (logged,) = [entry for entry in play.context.logged if "backend failed" in str(entry)]
    assert "RFC 8441" in str(logged)


async def test_a_tunnel_whose_stream_is_reset_is_cut_off(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    link.starts(stream)
    play.hears()
    link.drops(stream, CANCEL)
    assert play.hears_data(sid) == [(b"", False, "bad_gateway")]


# -- hostile backends -------------------------------------------------------------------------------


async def test_a_flood_ends_the_connection(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, _ = await heard(play)
    link.says(b"\0\0\x08\x06\0\0\0\0\0........" * 1000)
    assert play.hears_response(sid).status == 502
    link.listens()
    assert (link.goodbye, link.is_closed) == (ENHANCE_YOUR_CALM, True)


async def test_a_ping_with_each_message_is_no_flood(play: Play, serves: Any) -> None:
    """As a server in Go answers the messages of a stream that a client goes on and on sending."""
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    for number in range(400):
        play.sends(sid, b"%05d" % number)
        await play.turn()
        link.says(b"\0\0\x08\x06\0\0\0\0\0........")
        link.listens()
    play.hears()
    link.answers(stream)
    assert play.hears_response(sid).status == 200


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "the backend answers in HTTP/1.1"),
        (b"\0\0\x01\0\0\0\0\0\0x", ""),
        (b"\xff" * 40, ""),
    ],
    ids=["HTTP/1.1", "DATA on stream 0", "a frame that is too long"],
)
async def test_a_backend_that_does_not_speak_http2_is_a_bad_gateway(play: Play, serves: Any, said: bytes, reason: str) -> None:
    serves()
    play.backend().greeting = said
    sid = play.asks()
    await play.turn()
    response = play.hears_response(sid)
    assert (response.status, report_of(response).error) == (502, "connect_failed")
    assert peer(play).is_closed
    assert f"no HTTP/2: {reason}" in str(play.context.logged)


async def test_a_backend_that_lets_us_open_no_streams_cannot_be_used(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(max_streams=0)
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 502
    await play.turn()
    assert (play.backend().asked, play.state().open) == (1, 0)


# -- which protocol, which name ------------------------------------------------------------------------


async def test_a_backend_that_agreed_to_http1_is_from_then_on_dialled_for_each(play: Play, serves: Any) -> None:
    serves(alpn="h2h1", sni="backend.test")
    play.backend().agrees_to = "http/1.1"
    sids = [play.asks(target=b"/%d" % number) for number in range(3)]
    await play.turn()
    assert play.backend().asked == 3
    for sid, link in zip(sids, play.backend().links, strict=True):
        assert link.hears().startswith(b"GET /%d HTTP/1.1\r\n" % sids.index(sid))
        link.says(OK)
        play.hears_response(sid)
    assert len(play.state().idle) == 3
    play.state().idle[0].close()
    play.state().idle[1].close()
    play.state().idle[2].close()
    await play.turn()
    play.state().idle.clear()
    play.backend().agrees_to = "h2"
    sid = play.asks()
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":scheme"] == b"https"
    link.answers(stream)
    play.hears_response(sid)
    assert not play.state().is_http1


async def test_connections_are_for_requests_of_one_name(play: Play, serves: Any) -> None:
    serves(sni="$host")
    sids = [play.asks(host=host) for host in (b"One.test:8443", b"two.test", b"one.test")]
    await play.turn()
    assert sorted(link.connection.name for link in play.backend().links) == ["one.test", "two.test"]
    for link in play.backend().links:
        assert isinstance(link, Http2Link)
        for stream in link.listens():
            link.answers(stream)
    assert sorted(envelope.sid for _, envelope in play.hears()) == sids


async def test_at_the_cap_an_idle_connection_gives_way_to_another_name(play: Play, serves: Any) -> None:
    serves(sni="$host", max_connections=1)
    for host in (b"one.test", b"two.test", b"one.test"):
        sid = play.asks(host=host)
        await play.turn()
        link, (stream,) = await heard(play)
        assert link.connection.name == host.decode()
        link.answers(stream)
        play.hears_response(sid)
    assert play.backend().asked == 3


async def test_an_http1_connection_goes_to_the_next_in_line_only_if_it_wants_that_name(play: Play, serves: Any) -> None:
    serves(sni="$host", alpn="h1", max_connections=1)
    first, other = play.asks(host=b"one.test"), play.asks(host=b"two.test")
    await play.turn()
    play.backend().link.says(OK)
    play.hears_response(first)
    await play.turn()
    assert [(link.connection.name, link.is_closed) for link in play.backend().links] == [("one.test", True), ("two.test", False)]
    play.backend().link.says(OK)
    play.hears_response(other)


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"192.0.2.1:80", "192.0.2.1"), (b"[2001:db8::1]:443", "2001:db8::1"), (b"One.Test.:443", "one.test"), (b"", "a")],
)
async def test_the_name_is_the_host_without_its_port_and_the_dot_of_the_root(play: Play, serves: Any, host: bytes, name: str) -> None:
    serves(sni="$host")
    sid = play.asks(host=host)
    await play.turn()
    assert play.backend().link.connection.name == name
    play.cancels(sid)
