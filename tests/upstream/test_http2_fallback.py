"""Backends that chose HTTP/2 and do not carry a request there: it goes on over HTTP/1.1, where `alpn` allows both."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.http2.engine import HTTP_1_1_REQUIRED, INTERNAL_ERROR, NO_ERROR, LocalSettings
from pingap.stages.messages import UNKNOWN, Response
from pingap.stages.upstream.backend import HTTP1_FOR
from tests.upstream.playbook import ACCEPT, OK, Http2Link, Link, Play, report_of
from tests.upstream.test_http2 import KEY, heard, served, switches

SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
GRPC = b"host: example\r\ncontent-type: application/grpc+proto\r\n"


@pytest.fixture(params=["h2", "ngh2"])
def serves(play: Play, request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(request.param)

    def serve(addrs: str = "a:1", **more: Any) -> Any:
        return play.serves(addrs, **({"alpn": "h2h1", "sni": "backend.test", "http2_engine": request.param} | more))

    return serve


def kinds(play: Play, address: str = "a:1") -> list[str]:
    """What is spoken on the backend's connections, oldest first."""
    return ["h2" if isinstance(link, Http2Link) else "h1" for link in play.backend(address).links]


async def over_http1(play: Play, address: str = "a:1") -> Link:
    """The newest connection, which speaks HTTP/1.1."""
    await play.turn()
    link = play.backend(address).link
    assert not isinstance(link, Http2Link)
    return link


async def served_by(play: Play, shared: Link) -> None:
    """One whole exchange on this very connection."""
    assert isinstance(shared, Http2Link)
    sid = play.asks()
    await play.turn()
    (stream,) = shared.listens()
    shared.answers(stream)
    assert play.hears_response(sid).status == 200


async def wants_http1(play: Play, **more: Any) -> int:
    """A request whose stream the backend resets with HTTP_1_1_REQUIRED; its sid."""
    sid = play.posts(**more)
    link, (stream,) = await heard(play)
    link.drops(stream, HTTP_1_1_REQUIRED)
    await play.turn()
    return sid


# -- tunnels ----------------------------------------------------------------------------------------


async def test_without_extended_connect_an_upgrade_goes_over_http1_and_the_shared_connection_stays(play: Play, serves: Any) -> None:
    serves()
    shared = await served(play)
    sid = switches(play)
    link = await over_http1(play)
    asked = link.hears()
    assert asked.startswith(b"GET / HTTP/1.1\r\n") and KEY in asked and b"\r\nupgrade: websocket\r\n" in asked
    link.says(SWITCHED)
    (to, response), _ = play.hears()
    assert (to, response.status, response.length, report_of(response).tries) == (ACCEPT, 101, UNKNOWN, 1)
    play.sends(sid, b"ping")
    assert link.hears() == b"ping"
    link.says(b"pong")
    assert play.hears_data(sid) == [(b"pong", False, "")]
    await served_by(play, shared)
    assert kinds(play) == ["h2", "h1"]
    play.cancels(sid)
    await play.turn()
    assert (link.is_closed, shared.is_closed) == (True, False)


async def test_what_the_location_writes_is_written_once_on_either_way(play: Play, serves: Any) -> None:
    rules = {"proxy_set_headers": (("x-key", "rule"), ("x-at", "$upstream_addr")), "proxy_add_headers": (("x-tag", "1"),)}
    serves(location={**rules, "enable_reverse_proxy_headers": True})
    sid = play.posts(headers=b"host: example\r\nx-key: client\r\n")
    link, (stream,) = await heard(play)
    over_http2 = {name: value for name, value in link.streams[stream].items() if name.startswith(b"x-")}
    assert (over_http2[b"x-key"], over_http2[b"x-at"], over_http2[b"x-tag"]) == (b"rule", b"a:1", b"1")
    assert over_http2[b"x-real-ip"] == b"192.0.2.7"
    link.drops(stream, HTTP_1_1_REQUIRED)
    other = await over_http1(play)
    asked = other.hears().split(b"\r\n")
    assert sorted(line for line in asked if line.startswith(b"x-")) == sorted(b"%b: %b" % pair for pair in over_http2.items())
    other.says(OK)
    assert play.hears_response(sid).status == 200


async def test_the_first_upgrade_finds_out_and_those_after_it_know(play: Play, serves: Any) -> None:
    serves(idle_timeout=0.0)
    for opened in (["h2", "h1"], ["h2", "h1", "h1"]):
        sid = switches(play)
        link = await over_http1(play)
        link.hears()
        link.says(SWITCHED)
        assert play.hears()[0][1].status == 101
        assert kinds(play) == opened
        play.cancels(sid)
        await play.turn()


@pytest.mark.parametrize("known", [False, True])
async def test_an_upgrade_with_a_body_goes_over_http1_even_past_extended_connect(play: Play, serves: Any, known: bool) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    if known:
        await served(play)
    sid = play.posts(b"{json}", headers=b"host: example\r\n", upgrade=b"tcp")
    link = await over_http1(play)
    asked = link.hears()
    assert b"\r\nupgrade: tcp\r\n" in asked and asked.endswith(b"\r\n\r\n{json}")
    play.cancels(sid)


async def test_with_extended_connect_an_upgrade_stays_on_http2(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":protocol"] == b"websocket"
    assert kinds(play) == ["h2"]
    play.cancels(sid)


async def test_a_backend_that_has_learnt_extended_connect_gets_it_from_its_next_connection_on(play: Play, serves: Any) -> None:
    serves()
    await served(play)
    play.cancels(switches(play))
    await play.turn()
    play.backend().links[0].closes()
    play.backend().settings = LocalSettings(enable_connect=True)
    await served(play)
    sid = switches(play)
    link, (stream,) = await heard(play)
    assert link.streams[stream][b":method"] == b"CONNECT"
    play.cancels(sid)


async def test_extended_connect_that_is_reset_for_http1_goes_on_there(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    shared, (stream,) = await heard(play)
    shared.drops(stream, HTTP_1_1_REQUIRED)
    link = await over_http1(play)
    assert b"\r\nupgrade: websocket\r\n" in link.hears()
    link.says(SWITCHED)
    assert play.hears()[0][1].status == 101
    play.cancels(sid)


async def test_a_declined_upgrade_is_an_ordinary_answer(play: Play, serves: Any) -> None:
    serves()
    sid = switches(play)
    link = await over_http1(play)
    link.says(OK)
    ((_, response),) = play.hears()
    assert (response.sid, response.status, response.body) == (sid, 200, b"ok")


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(play: Play, serves: Any) -> None:
    serves()
    await served(play)
    play.backend().hangs = True
    sid = switches(play)
    await play.turn()
    assert play.backend().dialing == 1
    play.cancels(sid)
    await play.turn()
    assert play.backend().dialing == 0


async def test_a_backend_that_refuses_the_second_connection_is_a_bad_gateway(play: Play, serves: Any) -> None:
    serves()
    await served(play)
    play.backend().refuses = ConnectionRefusedError("no HTTP/1.1 here")
    sid = switches(play)
    await play.turn()
    ((_, response),) = play.hears()
    assert (response.sid, response.status, report_of(response).error) == (sid, 502, "connect_failed")


async def test_where_only_h2_is_allowed_it_is_a_bad_gateway_that_the_log_explains(play: Play, serves: Any) -> None:
    serves(alpn="h2")
    sid = switches(play)
    await play.turn()
    ((_, response),) = play.hears()
    assert (response.sid, response.status) == (sid, 502)
    assert 'RFC 8441), and alpn = "h2" rules out HTTP/1.1' in str(play.context.logged)
    assert kinds(play) == ["h2"]


async def test_an_upgrade_does_not_wait_for_the_http2_that_is_being_opened_and_nobody_else_for_its_connection(
    play: Play, serves: Any
) -> None:
    serves(idle_timeout=0.0)
    await served(play)
    play.backend().hangs = True
    sids = [play.asks(), switches(play), play.asks(), play.asks()]
    await play.turn()
    assert play.backend().dialing == 2
    play.backend().answers_dials()
    await play.turn()
    shared, single = play.backend().links[-2:]
    assert isinstance(shared, Http2Link) and b"upgrade: websocket" in single.hears()
    assert len(shared.listens()) == 3
    for sid in sids:
        play.cancels(sid)
    await play.turn()
    play.backend().hangs = True
    sids = [play.asks(), play.asks()]
    await play.turn()
    assert play.backend().dialing == 1, "that one connection had to be HTTP/1.1 says nothing of others"
    for sid in sids:
        play.cancels(sid)


# -- at the cap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows", [False, True], ids=["the first one", "a later one"])
async def test_at_the_cap_an_idle_shared_connection_gives_way(play: Play, serves: Any, knows: bool) -> None:
    serves(max_connections=1)
    if knows:
        await served(play)
    sid = switches(play)
    link = await over_http1(play)
    link.says(SWITCHED)
    assert play.hears()[0][1].status == 101
    assert (kinds(play), play.state().open) == (["h2", "h1"], 1)
    play.cancels(sid)


async def test_at_the_cap_a_busy_shared_connection_is_waited_for_and_nobody_else_waits_with_it(play: Play, serves: Any) -> None:
    serves(max_connections=1, max_h2_streams=2)
    await served(play)
    first, second = play.asks(), play.asks()
    shared, streams = await heard(play)
    tunnel, behind = switches(play), play.asks(target=b"/behind")
    await play.turn()
    assert play.group().pending == 2
    shared.answers(streams[0])
    assert play.hears_response(first).status == 200
    _, (third,) = await heard(play)
    assert shared.streams[third][b":path"] == b"/behind", "there is room for it on the shared connection"
    for sid, stream in ((second, streams[1]), (behind, third)):
        shared.answers(stream)
        assert play.hears_response(sid).status == 200
    link = await over_http1(play)
    link.says(SWITCHED)
    assert play.hears()[0][1].sid == tunnel
    play.cancels(tunnel)


async def test_at_the_cap_what_is_wanted_over_http1_waits_for_that(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    sids = [play.posts(), play.asks()]
    shared, streams = await heard(play)
    shared.drops(streams[0], HTTP_1_1_REQUIRED)
    await play.turn()
    assert (shared.listens(), play.group().pending) == ([], 1)
    shared.answers(streams[1])
    assert play.hears_response(sids[1]).status == 200
    link = await over_http1(play)
    link.says(OK)
    assert play.hears_response(sids[0]).status == 200


# -- HTTP_1_1_REQUIRED ------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [None, 0])
async def test_what_a_backend_wants_over_http1_it_gets_there_whatever_the_method(play: Play, serves: Any, retries: int | None) -> None:
    serves(location={"max_retries": retries})
    sid = await wants_http1(play, body=b"order")
    link = await over_http1(play)
    asked = link.hears()
    assert asked.startswith(b"POST / HTTP/1.1\r\n") and asked.endswith(b"\r\n\r\norder")
    link.says(OK)
    response = play.hears_response(sid)
    assert (response.status, report_of(response).tries) == (200, 2)
    assert "HTTP_1_1_REQUIRED" in str(play.context.logged)


async def test_from_then_on_it_is_asked_over_http1_for_a_while(play: Play, serves: Any) -> None:
    serves(idle_timeout=10_000.0)
    await wants_http1(play)
    link = await over_http1(play)
    link.says(OK)
    play.hears()
    for _ in range(3):
        play.clock.now += HTTP1_FOR / 4
        sid = play.posts()
        link.hears()
        link.says(OK)
        assert play.hears_response(sid).status == 200
    sids = [play.asks(), play.asks()]
    await play.turn()
    assert kinds(play) == ["h2", "h1", "h1"], "each has one of its own"
    for each in play.backend().links[1:]:
        each.says(OK)
    assert {envelope.sid for _, envelope in play.hears()} == set(sids)
    play.clock.now += HTTP1_FOR / 4
    await served_by(play, play.backend().links[0])  # HTTP/2 gets another chance


async def test_a_body_of_which_something_is_gone_is_not_sent_again_and_the_next_request_knows(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    play.hears_credit(sid)
    play.sends(sid, b"some")
    await heard(play)
    link.drops(stream, HTTP_1_1_REQUIRED)
    assert play.hears_response(sid).status == 502
    assert kinds(play) == ["h2"]
    sid = play.posts()
    link_of_next = await over_http1(play)
    link_of_next.says(OK)
    assert play.hears_response(sid).status == 200


async def test_a_body_that_is_still_to_come_goes_where_its_head_went(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads(length=5)
    shared, (stream,) = await heard(play)
    play.hears_credit(sid)
    shared.drops(stream, HTTP_1_1_REQUIRED)
    link = await over_http1(play)
    play.sends(sid, b"order", ended=True)
    assert link.hears().endswith(b"content-length: 5\r\n\r\norder")
    link.says(OK)
    assert play.hears()[-1][1].status == 200


async def test_after_an_interim_answer_it_is_too_late(play: Play, serves: Any) -> None:
    serves()
    sid = play.posts()
    link, (stream,) = await heard(play)
    link.starts(stream, 103, (b"link", b"</a>"))
    link.drops(stream, HTTP_1_1_REQUIRED)
    assert play.hears_response(sid).status == 502
    assert kinds(play) == ["h2"]


@pytest.mark.parametrize(("alpn", "headers"), [("h2", b"host: example\r\n"), ("h2h1", GRPC)], ids=["h2 only", "gRPC"])
async def test_where_http1_is_ruled_out_it_is_a_bad_gateway_that_the_log_explains(
    play: Play, serves: Any, alpn: str, headers: bytes
) -> None:
    serves(alpn=alpn)
    sid = await wants_http1(play, headers=headers)
    assert play.hears_response(sid).status == 502
    assert "HTTP_1_1_REQUIRED), which alpn, or gRPC, rules out" in str(play.context.logged)
    await served(play)
    assert kinds(play) == ["h2"]


async def test_grpc_stays_on_http2_where_others_have_left_it(play: Play, serves: Any) -> None:
    serves()
    other = await wants_http1(play)
    (await over_http1(play)).says(OK)
    assert play.hears_response(other).status == 200
    sid = play.posts(headers=GRPC)
    await play.turn()
    shared = play.backend().links[0]
    assert isinstance(shared, Http2Link)
    (stream,) = shared.listens()
    shared.answers(stream)
    assert play.hears_response(sid).status == 200


async def test_other_resets_are_no_reason_for_http1(play: Play, serves: Any) -> None:
    serves()
    for code in (INTERNAL_ERROR, NO_ERROR):
        sid = play.asks()
        link, (stream,) = await heard(play)
        link.drops(stream, code)
        assert play.hears_response(sid).status == 502
    await served(play)
    assert kinds(play) == ["h2"]


async def test_a_goodbye_for_http1_sends_all_that_was_not_touched_there(play: Play, serves: Any) -> None:
    serves()
    sids = [play.posts(target=b"/%d" % number) for number in range(3)]
    shared, streams = await heard(play)
    shared.leaves(streams[0], HTTP_1_1_REQUIRED)
    shared.answers(streams[0])
    assert play.hears_response(sids[0]).status == 200
    await play.turn()
    assert kinds(play) == ["h2", "h1", "h1"]
    for link in play.backend().links[1:]:
        link.says(OK)
    assert {envelope.sid: envelope.status for _, envelope in play.hears()} == dict.fromkeys(sids[1:], 200)


async def test_a_connection_that_begins_with_that_goodbye_is_followed_by_one_of_http1(
    play: Play, serves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by one more of HTTP/2 for those that may have nothing else."""
    serves()
    speaks = Http2Link.speaks

    def greets(link: Http2Link) -> None:
        monkeypatch.setattr(Http2Link, "speaks", speaks)
        link.engine.goaway(HTTP_1_1_REQUIRED, 0)
        speaks(link)

    backend = play.backend()
    connect = backend.connect

    async def refuses_what_is_closed(*arguments: Any) -> Any:
        connection = await connect(*arguments)
        if connection.transport.is_closing():
            raise ConnectionResetError("closed before it was asked anything")
        return connection

    monkeypatch.setattr(backend, "connect", refuses_what_is_closed)
    monkeypatch.setattr(Http2Link, "speaks", greets)
    ordinary, grpc = play.posts(), play.posts(headers=GRPC)
    link = await over_http1(play)
    link.says(OK)
    told = {envelope.sid: envelope.status for _, envelope in play.hears() if isinstance(envelope, Response)}
    assert told == {ordinary: 200, grpc: 502}
    assert kinds(play) == ["h2", "h1"]
