"""Several requests at once, in any cut, good and bad: the answers keep their order and nothing is answered twice."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pingap.stages.accept.http1 import AHEAD
from pingap.stages.messages import WINDOW, Request
from tests.accept.playbook import KERNEL_READ, Client, Play, get, post

ENGINES = pytest.mark.parametrize("engine", ["httptools", "h11"])


async def answer_all(play: Play, client: Client) -> list[tuple[bytes, bytes, bytes]]:
    """Answers each request with its own target; (method, target, body) of each."""
    seen: list[Any] = []
    while True:
        await play.turn()
        requests = [request for _, request in play.stages_hear() if isinstance(request, Request)]
        if not requests:
            return seen
        (request,) = requests  # one at a time
        assert request.ended
        seen.append((request.method, request.target, request.body))
        play.answers(request, body=request.target)


async def test_pipelined_requests_are_sent_one_after_the_other_and_answered_in_order(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/a") + get(b"/b") + get(b"/c"))
    first = play.hears_request()
    assert first.target == b"/a"
    await play.turn()
    assert play.hears_nothing()
    play.answers(first, body=b"a")
    await play.turn()
    second = play.hears_request()
    play.answers(second, body=b"b")
    await play.turn()
    play.answers(play.hears_request(), body=b"c")
    assert re.findall(rb"\r\n\r\n(.)", client.hears()) == [b"a", b"b", b"c"]
    assert not client.is_closed


async def test_a_pipelined_request_after_a_body_is_found(play: Play) -> None:
    client = play.connects()
    chunked = post(b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n")
    client.says(post(b"Content-Length: 5", body=b"hello") + chunked + get(b"/c"))
    assert await answer_all(play, client) == [(b"POST", b"/", b"hello"), (b"POST", b"/", b"hi"), (b"GET", b"/c", b"")]


@ENGINES
async def test_garbage_after_a_request_is_refused_after_its_answer(play: Play, engine: str) -> None:
    client = play.connects(engine)
    client.says(get(b"/a") + b"garbage\r\n\r\n" + get(b"/b"))
    assert await answer_all(play, client) == [(b"GET", b"/a", b"")]
    heard = client.hears()
    assert re.findall(rb"HTTP/1.1 (\d+)", heard) == [b"200", b"400"]
    assert client.is_closed


async def test_nothing_after_a_request_that_closes_is_looked_at(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/a", b"Connection: close") + get(b"/b"))
    assert await answer_all(play, client) == [(b"GET", b"/a", b"")]
    assert client.hears().count(b"HTTP/1.1") == 1
    assert client.is_closed
    client.says(get(b"/c"))
    await play.turn()
    assert play.hears_nothing()


async def test_a_long_pipeline_of_requests_goes_no_deeper_than_one(play: Play) -> None:
    client = play.connects()
    count = sys.getrecursionlimit() * 2
    client.says(get(b"/") * count)
    for _ in range(count):
        play.answers(play.hears_request())
        await play.turn()
    assert client.hears().count(b"HTTP/1.1 200") == count


async def test_what_waits_behind_a_request_is_bounded(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/slow"))
    request = play.hears_request()
    client.says(get(b"/next") * 100_000)
    assert len(client.connection._buffer) <= AHEAD + KERNEL_READ
    assert client.unread > 1_000_000
    for _ in range(50):
        play.answers(request)
        await play.turn()
        assert len(client.connection._buffer) <= AHEAD + KERNEL_READ
        request = play.hears_request()
    assert not client.is_closed


async def test_a_pipelined_request_is_not_opened_on_a_connection_that_was_lost(play: Play) -> None:
    """The loss is noticed in the turn in which the answer was written."""
    client = play.connects()
    client.says(get(b"/a") + get(b"/b"))
    request = play.hears_request()
    client.resets()
    play.answers(request)
    await play.turn()
    assert play.hears_nothing()
    assert not play.is_holding


async def test_a_pipelined_request_is_not_opened_on_a_connection_that_is_closing(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/a") + get(b"/b"))
    request = play.hears_request()
    play.actor.begin_drain(0.0)
    play.answers(request)
    await play.turn()
    assert play.hears_nothing()
    assert client.hears().count(b"HTTP/1.1") == 1


SCRIPT = (
    get(b"/1")
    + post(b"Content-Length: 5", body=b"hello")
    + b"\r\n"
    + post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX: y\r\n\r\n")
    + get(b"/2", b"X-A:   \t b", version=b"1.0").replace(b"Host", b"Connection: keep-alive\r\nHost")
    + post(b"Content-Length: 0")
    + b"HEAD" + get(b"/3")[3:]
)  # fmt: skip
EXPECTED = [(b"GET", b"/1"), (b"POST", b"/"), (b"POST", b"/"), (b"GET", b"/2"), (b"POST", b"/"), (b"HEAD", b"/3")]


async def serve(play: Play, client: Client, portions: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    """Says the portions; requests and bodies as the stages get them, bodies by DATA included."""
    seen: list[tuple[bytes, bytes, bytes]] = []
    open_request: Request | None = None
    body = b""
    waiting = list(portions)
    for _ in range(len(portions) + 50):
        if waiting:
            client.says(waiting.pop(0))
        await play.turn()
        for _, envelope in play.stages_hear():
            if isinstance(envelope, Request):
                open_request, body = envelope, envelope.body
                if not envelope.ended:
                    play.grants(envelope, 1 << 20)
            else:
                assert envelope.sid == open_request.sid  # type: ignore[union-attr]
                body += envelope.payload
        for _, envelope in play.stages_hear():
            body += envelope.payload
        if open_request is not None and (open_request.ended or play.actor.streams.by_sid[open_request.sid].upload_done):
            seen.append((open_request.method, open_request.target, body))
            finished, open_request = open_request, None
            play.answers(finished, body=b"x")
    return seen


@ENGINES
async def test_requests_cut_anywhere_into_two_are_the_same_requests(play: Play, engine: str) -> None:
    door = None
    for at in range(1, len(SCRIPT)):
        client = play.connects(engine, door)
        door = client.connection.door
        seen = await serve(play, client, [SCRIPT[:at], SCRIPT[at:]])
        assert [(method, target) for method, target, _ in seen] == EXPECTED, at
        assert [body for *_, body in seen] == [b"", b"hello", b"abcde", b"", b"", b""], at
        assert client.hears().count(b"HTTP/1.1 200 OK\r\n") == len(EXPECTED)


@ENGINES
async def test_requests_said_byte_by_byte_are_the_same_requests(play: Play, engine: str) -> None:
    client = play.connects(engine)
    seen = await serve(play, client, [SCRIPT[at : at + 1] for at in range(len(SCRIPT))])
    assert [(method, target) for method, target, _ in seen] == EXPECTED
    assert [body for *_, body in seen] == [b"", b"hello", b"abcde", b"", b"", b""]


@given(cuts=st.lists(st.integers(1, len(SCRIPT) - 1), max_size=12), engine=st.sampled_from(["httptools", "h11"]))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_requests_cut_in_any_way_are_the_same_requests(play: Play, cuts: list[int], engine: str) -> None:
    edges = sorted({0, len(SCRIPT), *cuts})
    client = play.connects(engine)
    seen = await serve(play, client, [SCRIPT[a:b] for a, b in zip(edges, edges[1:], strict=False)])  # noqa: RUF007
    assert [(method, target) for method, target, _ in seen] == EXPECTED
    assert b"".join(body for *_, body in seen) == b"helloabcde"


BAD = {
    "a bare LF": get(b"/", b"X: a\nb"),
    "a head of bare LFs": b"GET / HTTP/1.1\nHost: a\n\n",
    "a folded line": get(b"/", b"X: a", b" b"),
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "a length with a coding": post(b"Content-Length: 1", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "an obscure coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a space before a colon": get(b"/", b"X : a"),
    "a method that is not passed on": b"TRACE" + get()[3:],
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    "a bad chunk size": post(b"Transfer-Encoding: chunked", body=b"+1\r\nx\r\n0\r\n\r\n"),
    "a bad chunk end": post(b"Transfer-Encoding: chunked", body=b"1\r\nxy\r\n0\r\n\r\n"),
    "a stray byte after the last chunk": post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\nGET /evil HTTP/1.1\r\n\r\n"),
}


@ENGINES
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_bad_request_is_refused_however_it_is_cut_and_hides_no_other(play: Play, engine: str, bad: bytes) -> None:
    wire = bad + get(b"/evil")
    door = None
    for at in range(len(bad)):
        client = play.connects(engine, door)
        door = client.connection.door
        portions = [wire[:at], wire[at:]] if at else [wire]
        for portion in portions:
            client.says(portion)
            await play.turn()
            for _, envelope in play.stages_hear():
                if isinstance(envelope, Request):
                    assert envelope.target != b"/evil", at
                    play.grants(envelope, WINDOW)
                    await play.turn()
        assert re.findall(rb"HTTP/1\.1 (\d\d\d)", client.hears()) in ([b"400"], [b"501"]), at
        assert client.is_closed
        assert not play.is_holding


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_bytes_whatsoever_harm_nobody(play: Play, data: bytes, cuts: list[int]) -> None:
    client = play.connects()
    edges = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    for a, b in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        client.says(data[a:b])
    await play.turn()
    play.stages_hear()
    client.resets()
    await play.turn()
    assert not play.is_holding
