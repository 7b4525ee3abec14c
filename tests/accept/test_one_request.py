"""A request and its answer, one after the other on one connection."""

from __future__ import annotations

import pytest

from pingap.stages.messages import UNKNOWN, Affinity, Interim
from tests.accept.playbook import CREW, PLUGINS, ROUTING, UPSTREAM, Play, get, post


async def test_a_request_goes_to_routing_with_all_that_its_head_says(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/x?y=z", b"X-A: 1", b"X-A: 2"))
    request = play.hears_request()
    assert (request.method, request.target, request.version, request.host) == (b"GET", b"/x?y=z", 11, b"a.example")
    assert request.headers == b"host: a.example\r\nx-a: 1\r\nx-a: 2\r\n"
    assert (request.length, request.body, request.ended, request.upgrade) == (0, b"", True, b"")
    assert request.affinity == Affinity(ROUTING, PLUGINS, UPSTREAM)
    assert (request.server, request.generation, request.started) == ("web", 1, play.clock.now)
    assert request.peer[:5] == ("192.0.2.7", 5000, "192.0.2.1", 80, "http")
    play.answers(request, 200, b"x-b: 1\r\n", b"hello")
    assert client.hears() == b"HTTP/1.1 200 OK\r\nx-b: 1\r\ncontent-length: 5\r\n\r\nhello"
    assert play.hears_nothing()
    assert not play.is_holding


@pytest.mark.interpreted
async def test_an_ipv4_client_on_a_dual_listener_has_its_ipv4_address(play: Play) -> None:
    client = play.connects()
    client.transport._info["peername"] = ("::ffff:192.0.2.9", 1, 0, 0)
    del client.connection.arrival
    client.connection.connection_made(client.transport)
    assert client.connection.arrival.peer.ip == "192.0.2.9"
    play.actor.connections.held.discard(client.connection)
    play.doors[0].connections -= 1


@pytest.mark.interpreted
async def test_a_client_that_left_before_it_was_accepted_has_no_name_and_does_no_harm(play: Play) -> None:
    client = play.connects()
    client.transport._info.clear()
    del client.connection.arrival
    client.connection.connection_made(client.transport)
    assert client.connection.arrival.peer[:4] == ("", 0, "", 0)
    client.resets()
    play.doors[0].connections -= 1


async def test_many_requests_follow_each_other_on_one_connection(play: Play) -> None:
    client = play.connects()
    for number in range(5):
        client.says(get(b"/%d" % number))
        request = play.hears_request()
        assert request.target == b"/%d" % number
        play.answers(request, body=b"%d" % number)
        assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number
    assert not client.is_closed
    assert len({event.sid for event in play.events}) == 5


async def test_crews_take_turns(play: Play) -> None:
    play.members(*CREW, (21, "routing"), (22, "upstream"), (23, "upstream"))
    client = play.connects()
    crews = []
    for _ in range(6):
        client.says(get())
        request = play.hears_request()
        crews.append(request.affinity)
        play.answers(request)
    assert sorted(crews[:3]) == sorted(crews[3:])
    assert {crew.routing for crew in crews} == {ROUTING, 21}
    assert {crew.upstream for crew in crews} == {UPSTREAM, 22, 23}


async def test_colocated_streams_stay_in_their_process(play: Play) -> None:
    play.context.settings["crew"] = {"routing": ROUTING, "plugins": PLUGINS, "upstream": UPSTREAM}
    play.members(*CREW, (21, "routing"), (22, "upstream"))
    client = play.connects()
    for _ in range(3):
        client.says(get())
        request = play.hears_request()
        assert request.affinity == Affinity(ROUTING, PLUGINS, UPSTREAM)
        play.answers(request)


@pytest.mark.parametrize(
    ("head", "closes", "lines"),
    [
        (get(), False, b""),
        (get(b"/", b"Connection: close"), True, b"connection: close\r\n"),
        (get(version=b"1.0"), True, b"connection: close\r\n"),
        (get(b"/", b"Connection: keep-alive", version=b"1.0"), False, b"connection: keep-alive\r\n"),
    ],
    ids=["1.1", "1.1 close", "1.0", "1.0 keep-alive"],
)
async def test_the_connection_closes_when_the_client_or_its_version_says_so(play: Play, head: bytes, closes: bool, lines: bytes) -> None:
    client = play.connects()
    client.says(head)
    play.answers(play.hears_request(), body=b"x")
    assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n" + lines + b"\r\nx"
    assert client.is_closed == closes


@pytest.mark.parametrize(
    ("length", "framing"), [(5, b"content-length: 5\r\n"), (0, b"content-length: 0\r\n"), (UNKNOWN, b"")], ids=["5", "0", "unknown"]
)
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"HEAD", 404), (b"GET", 304)])
async def test_an_answer_without_body_says_how_long_it_would_be(
    play: Play, method: bytes, status: int, length: int, framing: bytes
) -> None:
    client = play.connects()
    client.says(method + get()[3:])
    play.answers(play.hears_request(), status, length=length)
    heard = client.hears()
    assert heard.startswith(b"HTTP/1.1 %d " % status)
    assert heard.endswith(b"\r\n" + framing + b"\r\n")
    assert not client.is_closed
    client.says(get(b"/next"))
    assert play.hears_request().target == b"/next"


@pytest.mark.parametrize("length", [5, 0, UNKNOWN])
async def test_204_has_no_framing_whatever_the_stage_says(play: Play, length: int) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), 204, length=length)
    assert client.hears() == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert not client.is_closed


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "streamed"])
async def test_a_body_where_none_may_be_is_never_written(play: Play, method: bytes, status: int, inline: bool) -> None:
    """A plugin that answers HEAD like GET must not make the client take its body for the next answer."""
    client = play.connects()
    client.says(method + get()[3:])
    request = play.hears_request()
    if inline:
        play.answers(request, status, body=b"evil")
    else:
        play.answers(request, status, body=b"ev", ended=False)
        play.streams(request, b"il")
        play.streams(request, b"", ended=True)
    head, _, body = client.hears().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b""
    assert not client.is_closed
    assert play.event.sent == 0


async def test_a_body_of_unknown_length_that_is_complete_is_given_its_length(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), body=b"hello", length=UNKNOWN)
    assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("length", [3, 7])
async def test_a_complete_body_is_announced_with_the_length_that_it_has(play: Play, length: int) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), body=b"hello", length=length)
    assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive"])
async def test_a_streamed_body_of_unknown_length_ends_with_the_connection_in_1_0(play: Play, keep_alive: bytes) -> None:
    client = play.connects()
    client.says(get(b"/", *filter(None, [keep_alive]), version=b"1.0"))
    request = play.hears_request()
    play.answers(request, body=b"hel", ended=False)
    play.streams(request, b"lo")
    assert not client.is_closed
    play.streams(request, b"", ended=True)
    assert client.hears() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert client.is_closed


@pytest.mark.parametrize("status", [0, 99, 1000, -1])
async def test_a_status_that_no_answer_may_have_is_an_error_of_ours(play: Play, status: int) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), status)
    assert client.hears().startswith(b"HTTP/1.1 500 ")
    assert play.event.error == "internal"
    assert [level for level, *_ in play.context.logged] == ["error"]


async def test_a_stage_that_answers_nonsense_costs_its_own_stream_only(play: Play) -> None:
    client, other = play.connects(), play.connects()
    client.says(get(b"/a"))
    other.says(get(b"/b"))
    (_, first), (_, second) = play.stages_hear()
    play.answers(first, headers="x: y\r\n", ended=False)  # type: ignore[arg-type]
    play.answers(second, body=b"fine")
    assert client.hears().startswith(b"HTTP/1.1 500 ")
    assert other.hears().endswith(b"fine")
    assert play.hears_cancels() == {ROUTING, PLUGINS, UPSTREAM}


async def test_one_empty_line_before_a_request_is_forgiven_and_so_are_many(play: Play) -> None:
    client = play.connects()
    client.says(b"\r\n" * 3 + get())
    request = play.hears_request()
    play.answers(request)
    client.says(b"\r\n")
    client.says(b"\r\n\r")
    client.says(b"\n" + get())
    assert play.hears_request().target == b"/"


async def test_a_server_with_a_keep_alive_of_zero_closes_after_each_answer(play: Play) -> None:
    client = play.connects(keepalive_timeout=0.0)
    client.says(get())
    play.answers(play.hears_request())
    assert b"connection: close\r\n" in client.hears()
    assert client.is_closed


@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_a_small_body_travels_inside_the_request(play: Play, body: bytes) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: %d" % len(body), body=body))
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (len(body), body, True)
    play.answers(request)
    assert not client.is_closed


# -- the reason phrase ----------------------------------------------------------------------


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("status", [200, 204, 304, 404, 777])
async def test_the_phrase_of_a_backend_is_written(play: Play, version: bytes, status: int) -> None:
    client = play.connects()
    client.says(get(version=version))
    play.answers(play.hears_request(), status, b"x: y\r\n", reason=b"As you like it")
    assert client.hears().startswith(b"HTTP/1.1 %d As you like it\r\nx: y\r\n" % status)


async def test_the_phrases_of_an_interim_answer_and_of_a_switch_are_written(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/", b"Connection: Upgrade", b"Upgrade: x"))
    request = play.hears_request()
    play.tell(Interim(request.sid, 103, b"link: </a>\r\n", b"Soon"))
    play.answers(request, 101, ended=False, reason=b"As asked")
    assert client.hears() == b"HTTP/1.1 103 Soon\r\nlink: </a>\r\n\r\nHTTP/1.1 101 As asked\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
