"""Upgrades, interim answers and trailers on HTTP/1.1: what goes past the one request, one answer of other tests."""

from __future__ import annotations

import pytest

from pingap.stages.messages import INLINE, UNKNOWN, WINDOW, Data, Interim, Request
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Client, Play, get, post

CREW = {ROUTING, PLUGINS, UPSTREAM}
ASKS = (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Key: x")


async def switch(play: Play, *, early: bytes = b"") -> tuple[Client, Request]:
    client = play.connects()
    client.says(get(b"/chat", *ASKS) + early)
    request = play.hears_request()
    play.answers(request, status=101, headers=b"sec-websocket-accept: y\r\n", ended=False)
    assert client.hears() == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    return client, request


async def test_a_client_that_asks_to_switch_says_so_to_the_stages(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/chat", *ASKS))
    request = play.hears_request()
    assert (request.upgrade, request.length, request.ended) == (b"websocket", 0, True)
    assert b"upgrade" not in request.headers
    assert b"sec-websocket-key: x\r\n" in request.headers
    play.answers(request, status=403, body=b"no")
    assert client.hears().endswith(b"\r\n\r\nno")
    client.says(get())
    play.answers(play.hears_request())
    assert client.hears().startswith(b"HTTP/1.1 200 ")


async def test_bytes_flow_both_ways_as_they_are_and_under_credit(play: Play) -> None:
    client, request = await switch(play)
    client.says(b"GET / HTTP/1.1\r\n\r\n")
    assert play.hears_nothing()  # nobody has granted anything yet
    play.grants(request, 10)
    assert play.hears_data(request) == [(b"GET / HTTP", False)]
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"/1.1\r\n\r\n", False)]
    play.streams(request, b"0\r\n\r\n")
    assert client.hears() == b"0\r\n\r\n"
    play.streams(request, b"x" * WINDOW)
    assert len(client.hears()) == WINDOW
    assert play.hears_credit() == WINDOW + 5


async def test_what_the_client_sent_before_the_switch_belongs_to_the_tunnel(play: Play) -> None:
    _, request = await switch(play, early=b"GET /smuggled HTTP/1.1\r\n\r\n")
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"GET /smuggled HTTP/1.1\r\n\r\n", False)]


JSON = b'{"Detach":false,"Tty":true}'
DOCKER = (b"Connection: Upgrade", b"Upgrade: tcp", b"Content-Type: application/json")


@pytest.mark.parametrize("comes", ["in one read", "in two", "by bytes"])
async def test_a_small_body_goes_along_and_the_tunnel_begins_behind_it(play: Play, comes: str) -> None:
    client = play.connects()
    said = post(*DOCKER, b"Content-Length: 27", body=JSON) + b"typed ahead"
    steps = {"in one read": [said], "in two": [said[:-20], said[-20:]], "by bytes": [said[at : at + 1] for at in range(len(said))]}
    for step in steps[comes]:
        client.says(step)
        await play.turn()
    request, sent = play.hears_whole_request()
    assert (request.upgrade, request.length, sent) == (b"tcp", 27, JSON)
    play.answers(request, status=101, headers=b"content-type: x\r\n", ended=False)
    assert client.hears() == b"HTTP/1.1 101 Switching Protocols\r\ncontent-type: x\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n"
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"typed ahead", False)]
    client.says(b"more")
    client.shuts_its_side()
    assert play.hears_data(request) == [(b"more", False), (b"", True)]
    play.streams(request, b"bye", ended=True)
    assert client.hears() == b"bye" and client.is_closed
    assert (play.event.received, play.event.sent) == (27 + 11 + 4, 3)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_long_body_streams_first_and_what_was_granted_for_it_is_not_the_tunnel_s(play: Play, framing: str) -> None:
    client = play.connects()
    size = INLINE + 1000
    line = b"Content-Length: %d" % size if framing == "length" else b"Transfer-Encoding: chunked"
    body = b"x" * size if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    client.says(post(*DOCKER, line, body=body))
    request = play.hears_request()
    assert (request.upgrade, request.ended) == (b"tcp", False)
    play.grants(request, WINDOW)
    sent = play.hears_data(request)
    assert b"".join(payload for payload, _ in sent) == b"x" * size and sent[-1][1]
    play.answers(request, status=101, ended=False)
    client.says(b"first")
    assert play.hears_nothing()
    play.grants(request, 3)
    assert play.hears_data(request) == [(b"fir", False)]


async def test_a_switch_before_the_body_was_sent_is_an_error_of_the_stage(play: Play) -> None:
    client = play.connects()
    client.says(post(*DOCKER, b"Content-Length: 100000", body=JSON))
    request = play.hears_request()
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(JSON, False)]
    play.answers(request, status=101, ended=False)
    assert client.hears().startswith(b"HTTP/1.1 500 ")


async def test_a_declined_upgrade_with_a_body_leaves_the_connection(play: Play) -> None:
    client = play.connects()
    client.says(post(*DOCKER, b"Content-Length: 27", body=JSON))
    play.answers(play.hears_request(), status=409, body=b"no")
    assert client.hears().endswith(b"\r\n\r\nno")
    client.says(get())
    play.answers(play.hears_request())
    assert client.hears().startswith(b"HTTP/1.1 200 ")


async def test_either_side_may_end_its_half_first(play: Play) -> None:
    client, request = await switch(play)
    play.grants(request, WINDOW)
    client.says(b"last")
    client.shuts_its_side()
    assert play.hears_data(request) == [(b"last", False), (b"", True)]
    assert not client.is_closed
    play.streams(request, b"answer", ended=True)
    assert client.hears() == b"answer"
    assert client.is_closed
    assert play.hears_nothing()
    assert (play.event.status, play.event.error) == (101, "")


async def test_the_backend_may_end_its_half_first(play: Play) -> None:
    client, request = await switch(play)
    play.grants(request, WINDOW)
    play.streams(request, b"bye", ended=True)
    assert client.hears() == b"bye"
    assert client.transport.eof_sent
    assert play.is_holding
    client.says(b"still here")
    client.shuts_its_side()
    assert play.hears_data(request) == [(b"still here", False), (b"", True)]
    assert not play.is_holding
    assert (play.event.received, play.event.sent) == (10, 3)


async def test_a_tunnel_has_no_time_out_here(play: Play) -> None:
    client, _ = await switch(play)
    await play.passes(1000)
    assert not client.is_closed


async def test_a_tunnel_lives_on_without_routing_and_plugins_and_dies_with_upstream(play: Play) -> None:
    client, _ = await switch(play)
    play.members((UPSTREAM, "upstream"))
    assert not client.is_closed
    assert play.hears_nothing()
    play.members()
    assert client.is_closed
    assert play.event.error == "stage_lost"


async def test_a_client_that_leaves_ends_the_tunnel(play: Play) -> None:
    client, _ = await switch(play)
    client.resets()
    await play.turn()
    assert play.hears_cancels() == CREW


async def test_a_switch_that_nobody_asked_for_is_an_error_of_the_stage(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), status=101, ended=False)
    assert client.hears().startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("offered", [b"h2c", b"TLS/1.3", b"h2c, tls/1.0", b",", b"two words"])
async def test_a_protocol_that_is_the_hop_s_own_is_not_passed_on(play: Play, offered: bytes) -> None:
    client = play.connects()
    client.says(get(b"/", b"Connection: Upgrade", b"Upgrade: " + offered))
    assert play.hears_request().upgrade == b""


async def test_of_several_protocols_the_first_that_can_be_tunnelled_is_asked_for(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/", b"Connection: Upgrade", b"Upgrade: h2c, WebSocket, x"))
    assert play.hears_request().upgrade == b"websocket"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_interim_answers_are_passed_on_to_who_knows_them(play: Play, version: bytes) -> None:
    client = play.connects()
    client.says(get(version=version))
    request = play.hears_request()
    play.tell(Interim(request.sid, 103, b"link: </a.css>; rel=preload\r\n"))
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    assert client.hears() == (hint if version == b"1.1" else b"")
    play.answers(request, body=b"x")
    assert client.hears().startswith(b"HTTP/1.1 200 ")
    play.tell(Interim(request.sid, 103, b""))  # too late: the client would take it for the next answer's
    assert client.hears() == b""


@pytest.mark.parametrize("reads_them", [True, False])
async def test_trailers_reach_a_client_that_says_it_reads_them(play: Play, reads_them: bool) -> None:
    client = play.connects()
    client.says(get(b"/", *([b"TE: trailers", b"Connection: TE"] if reads_them else [])))
    request = play.hears_request()
    play.answers(request, ended=False)
    play.streams(request, b"abc")
    play.tell(Data(request.sid, b"d", True, "", False, None, b"x-sum: 6\r\n"))
    trailers = b"x-sum: 6\r\n" if reads_them else b""
    assert client.hears().endswith(b"\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n" + trailers + b"\r\n")
    assert request.length != UNKNOWN
