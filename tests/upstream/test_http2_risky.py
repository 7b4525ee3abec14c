"""Requests over which a backend ends its whole connection: they are on one of their own, and nobody else pays for them."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.http2.engine import ENHANCE_YOUR_CALM, INTERNAL_ERROR, PROTOCOL_ERROR, LocalSettings
from pingap.stages.messages import Data
from pingap.stages.upstream.risky import LARGE, LONG, MANY, SMALL, exceeds, is_large
from tests.upstream.playbook import Http2Link, Play

HOST = b"host: example\r\n"
LONG_LINE = HOST + b"x-long: %b\r\n" % (b"x" * LONG)
MANY_LINES = HOST + b"".join(b"x-%d: 1\r\n" % number for number in range(MANY))
ALTOGETHER = HOST + b"".join(b"x-%d: %b\r\n" % (number, b"x" * 1000) for number in range(LARGE // 1000 + 1))


@pytest.fixture(params=["h2", "ngh2"], autouse=True)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name)
    return name


@pytest.fixture
def serves(play: Play, engine_name: str) -> Any:
    def serve(addrs: str = "a:1", **more: Any) -> Any:
        return play.serves(addrs, **({"alpn": "h2", "http2_engine": engine_name} | more))

    return serve


async def heard(play: Play, number: int = -1, address: str = "a:1") -> tuple[Http2Link, list[int]]:
    await play.turn()
    link = play.backend(address).links[number]
    assert isinstance(link, Http2Link)
    streams = link.listens()
    await play.turn()
    return link, streams


def ends(link: Http2Link, code: int = ENHANCE_YOUR_CALM, last: int = -1, debug: bytes = b"") -> None:
    """As servers end a connection over what they do not take: GOAWAY, and all is gone."""
    last = max(link.streams) if last < 0 else last
    link.says((8 + len(debug)).to_bytes(3, "big") + b"\x07\0\0\0\0\0" + last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)
    link.resets()


def trails(play: Play, sid: int, trailers: bytes = b"x-sum: 1\r\n") -> None:
    play.tell(Data(sid, b"body", True, "", True, None, trailers))


# -- what is too much --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "headers", "large"),
    [
        (b"/", HOST, False),
        (b"/" + b"q" * SMALL, HOST, False),
        (b"/" + b"q" * (LONG - 1), HOST, False),
        (b"/" + b"q" * LONG, HOST, True),
        (b"/", HOST + b"x: %b\r\n" % (b"x" * (LONG - 3)), False),
        (b"/", LONG_LINE, True),
        (b"/", HOST + b"x: 1\r\n" * (MANY - 1), False),
        (b"/", MANY_LINES, True),
        (b"/", HOST + b"x: %b\r\n" % (b"x" * 4000) * 2, False),
        (b"/", ALTOGETHER, True),
    ],
)
def test_a_head_is_large_by_a_line_its_lines_its_target_or_altogether(target: bytes, headers: bytes, large: bool) -> None:
    assert is_large(target, headers) is large


@pytest.mark.parametrize("lines", [1, 10, 200])
@pytest.mark.parametrize("value", [b"", b"x" * 50])
def test_a_list_that_is_larger_than_announced_is_never_taken_for_smaller(lines: int, value: bytes) -> None:
    headers = HOST + b"".join(b"a%d: %b\r\n" % (number, value) for number in range(lines))
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/path"), (b":authority", b"example")]
    fields += [(b"a%d" % number, value) for number in range(lines)]
    size = sum(len(name) + len(value) + 32 for name, value in fields)
    assert exceeds(size - 1, b"/path", headers)
    assert not exceeds(size + 256, b"/path", headers)


# -- apart ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"headers": LONG_LINE}, {"headers": MANY_LINES}, {"headers": ALTOGETHER}, {"target": b"/" + b"q" * LONG}])
async def test_a_large_head_has_a_connection_of_its_own_and_takes_nobody_with_it(play: Play, serves: Any, more: Any) -> None:
    serves()
    others = [play.posts(), play.posts()]
    shared, streams = await heard(play)
    risky = play.asks(**more)
    apart, _ = await heard(play)
    assert apart is not shared and len(apart.streams) == 1
    ends(apart, debug=b"too \x1b[31m large")
    await play.turn()
    assert play.hears_response(risky).status == 431
    assert "detail='GOAWAY, error 11 ENHANCE_YOUR_CALM, last stream 1: too ?[31m large'" in str(
        [f"detail={logged[2]['detail']!r}" for logged in play.context.logged if logged[1] == "backend failed"]
    )
    for sid, stream in zip(others, streams, strict=True):
        shared.answers(stream)
        assert play.hears_response(sid).status == 200


async def test_connections_apart_are_for_one_at_a_time_and_used_again(play: Play, serves: Any) -> None:
    serves()
    sids = [play.asks(headers=LONG_LINE), play.asks(headers=LONG_LINE)]
    await play.turn()
    for number, sid in enumerate(sids):
        link, (stream,) = await heard(play, number)
        link.answers(stream)
        assert play.hears_response(sid).status == 200
    ordinary, large = play.asks(), play.asks(headers=LONG_LINE)
    link, (stream,) = await heard(play)
    assert play.backend().asked == 3, "an ordinary request joined a connection that is apart, or a large one did not use it"
    link.answers(stream)
    assert play.hears_response(ordinary).status == 200
    for number in range(2):
        link, streams = await heard(play, number)
        for stream in streams:
            link.answers(stream)
    assert play.hears_response(large).status == 200


async def test_at_the_cap_a_large_head_shares_and_one_apart_gives_way(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    ordinary = play.asks()
    link, (first,) = await heard(play)
    large = play.asks(headers=LONG_LINE)
    link, (second,) = await heard(play)
    assert play.backend().asked == 1
    for stream, sid in ((first, ordinary), (second, large)):
        link.answers(stream)
        assert play.hears_response(sid).status == 200


async def test_a_connection_apart_that_idles_at_the_cap_gives_way(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    large = play.asks(headers=LONG_LINE)
    link, (stream,) = await heard(play)
    link.answers(stream)
    assert play.hears_response(large).status == 200
    ordinary = play.asks()
    await play.turn()
    link, (stream,) = await heard(play)
    assert play.backend().asked == 2
    link.answers(stream)
    assert play.hears_response(ordinary).status == 200


# -- trailers ----------------------------------------------------------------------------------------------


async def test_announced_trailers_are_apart_until_the_backend_has_read_some(play: Play, serves: Any) -> None:
    serves()
    other = play.asks()
    shared, (stream,) = await heard(play)
    for asked in (2, 2, 2):
        sid = play.uploads(headers=HOST + b"trailer: x-sum\r\n")
        await play.turn()
        play.hears()
        trails(play, sid)
        for number in range(asked):
            link, streams = await heard(play, number)
            for upload in streams:
                assert link.trailers[upload] == ((b"x-sum", b"1"),)
                link.answers(upload)
        assert play.hears_response(sid).status == 200
        assert play.backend().asked == asked
    assert len(shared.streams) == 3, "the second and the third share: the first was read"
    shared.answers(stream)
    assert play.hears_response(other).status == 200


async def test_unannounced_trailers_are_dropped_where_others_might_pay_for_them(play: Play, serves: Any) -> None:
    serves()
    other, sid = play.asks(), play.uploads()
    link, (first, second) = await heard(play)
    play.hears()
    trails(play, sid)
    link, _ = await heard(play)
    assert (link.bodies[second], second in link.ended, link.trailers) == (b"body", True, {})
    for stream, one in ((first, other), (second, sid)):
        link.answers(stream)
        assert play.hears_response(one).status == 200


async def test_unannounced_trailers_pass_where_nobody_else_is_and_nobody_joins_them(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    first, _ = await heard(play)
    play.hears()
    trails(play, sid)
    other = play.posts()
    second, (ordinary,) = await heard(play)
    assert second is not first
    assert first.hears(), "the trailers were not sent"
    ends(first, PROTOCOL_ERROR)
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert not play.state().takes_trailers
    second.answers(ordinary)
    assert play.hears_response(other).status == 200


# -- bystanders -------------------------------------------------------------------------------------------------


async def test_who_may_be_repeated_is_and_from_the_second_loss_on_alone(play: Play, serves: Any) -> None:
    """A cause that nobody can see in a request takes others with it twice, whatever comes in between."""
    serves()
    sids = [play.asks(target=b"/%d" % number) for number in range(3)]
    posted = play.posts()
    for number in (0, 1):
        link, _ = await heard(play, number)
        ends(link, INTERNAL_ERROR)
        await play.turn()
        if not number:
            assert play.hears_response(posted).status == 502
    links = [(await heard(play, number))[0] for number in (2, 3, 4)]
    assert [len(link.streams) for link in links] == [1, 1, 1]
    for link in links:
        (target,) = [fields[b":path"] for fields in link.streams.values()]
        sid = sids[int(target[1:])]
        if target == b"/1":
            ends(link, INTERNAL_ERROR)
            await play.turn()
            assert play.hears_response(sid).status == 502, "alone on its connection it is the cause"
        else:
            link.answers(1)
            assert play.hears_response(sid).status == 200


async def test_what_a_goaway_with_an_error_has_not_touched_is_repeated_whatever_its_method(play: Play, serves: Any) -> None:
    serves()
    sids = [play.posts(), play.posts(), play.posts()]
    for number in (0, 1):
        link, _ = await heard(play, number)
        ends(link, INTERNAL_ERROR, last=0)
    for number, sid in enumerate(sids):
        link, (stream,) = await heard(play, 2 + number)
        link.answers(stream)
        assert play.hears_response(sid).status == 200


# -- what the backend announces -------------------------------------------------------------------------------------


async def test_a_head_beyond_what_the_backend_announces_is_431_and_never_sent(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(header_list=2048)
    small = play.asks()
    link, (stream,) = await heard(play)
    for target, headers in ((b"/", b"x: %b\r\n" % (b"x" * 2000)), (b"/" + b"q" * 2000, b""), (b"/", b"x: 1\r\n" * 60)):
        assert play.hears_response(play.asks(target=target, headers=HOST + headers)).status == 431
    upgrade = HOST + b"sec-websocket-key: k\r\nx: %b\r\n" % (b"x" * 2000)
    assert play.hears_response(play.asks(headers=upgrade, upgrade=b"websocket")).status in (431, 502)
    _, streams = await heard(play)
    assert streams == []
    link.answers(stream)
    assert play.hears_response(small).status == 200
