"""The same rules over HTTP/2: a stream is an attempt, and the others on its connection have no part in it. gRPC is POST."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.circuit_states import HALF_OPEN, OPEN
from pingap.stages.http2.engine import CANCEL, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED, INTERNAL_ERROR, REFUSED_STREAM
from tests.upstream.playbook import UPSTREAM, Http2Link, Play, report_of

CALL = b"host: example\r\ncontent-type: application/grpc\r\nte: trailers\r\n"
BOTH = ("a:1", "b:1")


@pytest.fixture(params=["h2", "ngh2"], autouse=True)
def serves(request: pytest.FixtureRequest, play: Play) -> Any:
    pytest.importorskip(request.param)

    def serve(addrs: str = "a:1 b:1", **more: Any) -> Any:
        return play.serves(addrs, **({"alpn": "h2", "http2_engine": request.param} | more))

    return serve


async def asked(play: Play) -> tuple[Http2Link, int]:
    """The backend's connection on which the one request has come, and its stream."""
    await play.turn()
    links = [link for backend in play.backends.values() for link in backend.links if isinstance(link, Http2Link)]
    ((link, stream),) = [(link, stream) for link in links for stream in link.listens()]
    await play.turn()
    return link, stream


@pytest.mark.parametrize("code", [INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM])
async def test_a_stream_that_is_reset_before_an_answer_is_asked_of_another_backend(play: Play, serves: Any, code: int) -> None:
    serves()
    sid = play.asks(b"PUT", body=b"whole")
    first, stream = await asked(play)
    first.drops(stream, code)
    second, stream = await asked(play)
    assert second is not first
    assert not first.is_closed
    assert second.bodies[stream] == b"whole"
    second.answers(stream)
    assert report_of(play.hears_response(sid)).tries == 2


@pytest.mark.parametrize("headers", [CALL, b"host: example\r\n"], ids=["gRPC", "POST"])
@pytest.mark.parametrize("how", ["reset", "503", "silent", "closed"])
async def test_a_call_is_made_once_only(play: Play, serves: Any, headers: bytes, how: str) -> None:
    serves(read_timeout=2.0, location={"retry_status_code": (503,)})
    play.asks(b"POST", headers=headers, body=b"\0\0\0\0\0")
    link, stream = await asked(play)
    if how == "reset":
        link.drops(stream, INTERNAL_ERROR)
    elif how == "503":
        link.answers(stream, b"busy", 503)
    elif how == "closed":
        link.closes()
    await play.passes(2.5)
    ((_, response),) = play.hears()
    assert response.report.tries == 1
    assert len(play.backends) == 1


async def test_a_call_that_is_refused_untouched_goes_to_another_backend(play: Play, serves: Any) -> None:
    serves(retry_budget=0)
    sid = play.asks(b"POST", headers=CALL, body=b"\0\0\0\0\0")
    first, stream = await asked(play)
    first.drops(stream, REFUSED_STREAM)
    second, stream = await asked(play)
    assert second is not first
    second.answers(stream)
    assert report_of(play.hears_response(sid)).tries == 2


async def test_a_call_whose_connect_fails_goes_to_another_backend(play: Play, serves: Any) -> None:
    serves(retry_budget=0)
    play.backend("a:1").refuses = ConnectionRefusedError("no")
    for _ in range(2):
        sid = play.asks(b"POST", headers=CALL, body=b"\0\0\0\0\0")
        link, stream = await asked(play)
        link.answers(stream)
        assert play.hears_response(sid).status == 200


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_that_is_dropped_costs_its_stream_at_the_most(play: Play, serves: Any, whole: bool) -> None:
    serves(location={"retry_status_code": (503,)})
    sid = play.asks()
    first, stream = await asked(play)
    if whole:
        first.answers(stream, b"busy", 503)
    else:
        first.starts(stream, 503)
    second, other = await asked(play)
    assert second is not first
    second.answers(other)
    assert play.hears_response(sid).status == 200
    assert not first.is_closed
    first.listens()
    assert first.reset == ({} if whole else {stream: CANCEL})


async def test_an_answer_with_trailers_is_dropped_whole(play: Play, serves: Any) -> None:
    serves(location={"retry_status_code": (503,)})
    sid = play.asks()
    first, stream = await asked(play)
    first.engine.send_head(stream, ((b":status", b"503"),), False)
    first.engine.send_trailers(stream, ((b"x-sum", b"1"),))
    first.speaks()
    second, stream = await asked(play)
    second.answers(stream)
    assert play.hears_response(sid).status == 200


async def test_a_stream_that_is_silent_goes_elsewhere_and_its_neighbours_stay(play: Play, serves: Any) -> None:
    serves("a:1 b:1*0", read_timeout=2.0)
    slow = play.asks(target=b"/slow")
    link, stream = await asked(play)
    await play.passes(1.5)
    quick = play.asks(target=b"/quick")
    _, neighbour = await asked(play)
    link.starts(neighbour, 200)
    play.hears_response(quick)
    await play.passes(0.75)
    assert play.hears_response(slow).status == 504, "there is no other one"
    link.sends(neighbour, b"ok", ended=True)
    assert play.hears_data(quick) == [(b"ok", True, "")]
    serves(read_timeout=2.0)
    sid = play.asks()
    first, stream = await asked(play)
    await play.passes(2.5)
    second, stream = await asked(play)
    assert second is not first
    second.answers(stream)
    assert play.hears_response(sid).status == 200


async def test_what_came_of_an_answer_before_a_reset_in_the_same_read_rules_another_attempt_out(play: Play, serves: Any) -> None:
    serves()
    sid = play.asks()
    link, stream = await asked(play)
    link.engine.send_head(stream, ((b":status", b"200"),), False)
    link.engine.reset(stream, INTERNAL_ERROR)
    link.speaks()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert len(play.backends) == 1


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_lost_connection_takes_none_of_its_requests_with_it_and_costs_no_budget(play: Play, serves: Any, is_kept: bool) -> None:
    """One that never brought an answer is no kept one: its loss is a matter of the budget."""
    serves("a:1", retry_budget=0)
    if is_kept:
        sid = play.asks()
        link, stream = await asked(play)
        link.answers(stream)
        play.hears_response(sid)
    sids = [play.asks() for _ in range(50)]
    await play.turn()
    first = play.backend().link
    assert isinstance(first, Http2Link)
    assert len(first.listens()) == 50
    first.closes()
    await play.turn()
    second = play.backend().link
    assert isinstance(second, Http2Link)
    if is_kept:
        for stream in second.listens():
            second.answers(stream)
    assert {response.sid: response.status for _, response in play.hears()} == dict.fromkeys(sids, 200 if is_kept else 502)
    assert (second is first) != is_kept


@pytest.mark.parametrize(
    ("topic", "value", "connects"),
    [
        pytest.param("drains", ["a:1"], 1, id="drained"),
        pytest.param("circuits", {"a:1": (OPEN, 1, {})}, 1, id="open"),
        pytest.param("circuits", {"a:1": (HALF_OPEN, 1, {})}, 1, id="no probe left"),
        pytest.param("circuits", {"a:1": (HALF_OPEN, 1, {UPSTREAM: 1})}, 2, id="a probe"),
    ],
)
async def test_what_a_backend_refused_it_is_given_again_only_if_it_gets_requests(
    play: Play, serves: Any, topic: str, value: Any, connects: int
) -> None:
    serves("a:1")
    sid = play.asks()
    link, _ = await asked(play)
    play.context.following[topic]({"api": value})
    link.leaves(0)
    await play.turn()
    assert play.backend().asked == connects
    if connects == 1:
        assert play.hears_response(sid).status == 502
    else:
        assert play.state().probes == 0
        link, stream = await asked(play)
        link.answers(stream)
        assert play.hears_response(sid).status == 200


async def test_a_backend_that_is_drained_is_not_asked_over_http1_if_there_is_another(play: Play, serves: Any) -> None:
    serves(alpn="h2h1", sni="x.test")
    sid = play.asks()
    link, stream = await asked(play)
    at = next(address for address, backend in play.backends.items() if link in backend.links)
    play.context.following["drains"]({"api": [at]})
    link.drops(stream, HTTP_1_1_REQUIRED)
    link, stream = await asked(play)
    link.answers(stream)
    assert report_of(play.hears_response(sid)).addr != at
