"""Upgrades, interim answers and trailers between us and a backend that speaks HTTP/1.1."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pingap.stages.messages import UNKNOWN, WINDOW, Credit, Data, Interim, Response
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.websocket import accept_of_key, fresh_key
from tests.upstream.playbook import ACCEPT, OK, PLUGINS, Link, Play

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\n"


async def asked(play: Play, **more: Any) -> tuple[int, Link]:
    play.serves(**({"read_timeout": 60.0} | more))
    sid = play.asks(headers=b"host: example\r\nsec-websocket-key: x\r\n", upgrade=b"websocket", plan=4)
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    link = play.backend().link
    assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in link.hears()
    return sid, link


async def switched(play: Play, rest: bytes = b"", **more: Any) -> tuple[int, Link]:
    sid, link = await asked(play, **more)
    link.says(SWITCHED + rest)
    (to, response), (granted_by, credit) = play.hears()
    assert play.takens == [(PLUGINS, sid)], "they would wait for an answer"
    assert (to, response.status, response.length, response.body, response.ended) == (ACCEPT, 101, UNKNOWN, rest, False)
    assert response.headers == b"sec-websocket-accept: y\r\n"
    assert (granted_by, credit) == (ACCEPT, Credit(sid, WINDOW, credit.wanter))
    return sid, link


async def test_bytes_flow_both_ways_past_plugins(play: Play) -> None:
    sid, link = await switched(play, b"first")
    play.sends(sid, b"GET / HTTP/1.1\r\n\r\n")
    assert link.hears() == b"GET / HTTP/1.1\r\n\r\n"
    link.says(b"HTTP/1.1 200 OK\r\n\r\n")
    assert play.hears_data(sid) == [(b"HTTP/1.1 200 OK\r\n\r\n", False, "")]
    play.cancels(sid)


async def test_a_slow_client_stops_the_backend_and_a_slow_backend_the_client(play: Play) -> None:
    sid, link = await switched(play)
    link.says(b"x" * (2 * WINDOW))
    assert sum(len(payload) for payload, _, _ in play.hears_data(sid)) <= WINDOW + 256 * 1024
    assert link.unread
    link.stops_reading()
    play.sends(sid, b"y" * (512 * 1024))
    assert play.hears_nothing()  # no further credit
    link.reads()
    assert play.hears_credit(sid) == 512 * 1024
    play.cancels(sid)


async def test_the_backend_may_end_its_half_first(play: Play) -> None:
    sid, link = await switched(play)
    link.closes()
    assert play.hears_data(sid) == [(b"", True, "")]
    play.sends(sid, b"more")
    assert link.hears() == b"more"
    play.sends(sid, b"", ended=True)
    await play.turn()
    assert link.is_closed
    play.is_idle()


async def test_the_client_may_end_its_half_first(play: Play) -> None:
    sid, link = await switched(play)
    play.sends(sid, b"last", ended=True)
    assert link.hears() == b"last"
    assert link.transport.eof_sent
    link.says(b"answer")
    link.closes()
    await play.turn()
    assert play.hears_data(sid) == [(b"answer", False, ""), (b"", True, "")]
    play.is_idle()


async def test_a_tunnel_in_which_nothing_moves_is_closed(play: Play) -> None:
    sid, link = await switched(play)
    for _ in range(3):
        await play.passes(50)
        play.sends(sid, b"ping")
        await play.passes(50)
        link.says(b"pong")
    assert not link.is_closed
    play.hears()
    await play.passes(61)
    assert play.hears_data(sid) == [(b"", False, "gateway_timeout")]
    assert link.is_closed


async def test_it_lives_on_without_plugins_and_dies_with_accept(play: Play) -> None:
    _, link = await switched(play)
    play.without(PLUGINS)
    assert not link.is_closed
    assert play.hears_nothing()
    play.without(ACCEPT, PLUGINS)
    assert link.is_closed


async def test_a_backend_that_declines_gives_an_ordinary_answer_and_no_connection_for_others(play: Play) -> None:
    sid, link = await asked(play)
    link.says(OK)
    assert play.hears_response(sid, PLUGINS).status == 200
    await play.turn()
    assert link.is_closed


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        SWITCHED.replace(b"WebSocket\r", b"h2c\r"),
        SWITCHED.replace(b"WebSocket\r", b"websocket, h2c\r"),
        SWITCHED.replace(b"Connection: Upgrade\r\n", b""),
    ],
)
async def test_a_switch_to_anything_else_is_no_switch(play: Play, answer: bytes) -> None:
    sid, link = await asked(play)
    link.says(answer)
    assert play.hears_response(sid, PLUGINS).status == 502
    assert link.is_closed


async def test_a_switch_that_nobody_asked_for_is_502(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    play.backend().link.says(SWITCHED)
    assert play.hears_response(sid).status == 502
    assert Outcome.INVALID.kind == "bad_gateway"


async def test_interim_answers_are_passed_on_and_100_is_not(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n" + OK)
    assert play.hears_response(sid).status == 200
    assert [(one.sid, one.status, one.headers) for one in play.interims] == [(sid, 103, b"link: </a>\r\n")]


@pytest.mark.parametrize("final", ["200", "101", "cut"])
@pytest.mark.parametrize("plan", [0, 4])
@pytest.mark.parametrize("together", [True, False])
async def test_interim_answers_and_the_final_one_go_one_way_in_their_order(play: Play, plan: int, final: str, together: bool) -> None:
    play.serves()
    sid = play.asks(plan=plan, upgrade=b"tcp" if final == "101" else b"")
    await play.turn()
    link = play.backend().link
    said = [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", {"200": OK, "101": TCP, "cut": b""}[final]]
    for part in [b"".join(said)] if together else said:
        link.says(part)
    if final == "cut":
        link.closes()
    told = [(to, one.status) for to, one in play.context.sent if isinstance(one, Interim | Response)]
    way = PLUGINS if plan and final != "101" else ACCEPT
    assert told == [(way, 102), (way, 103), (way, {"200": 200, "101": 101, "cut": 502}[final])]
    play.cancels(sid)


async def test_trailers_of_an_answer_end_it(play: Play) -> None:
    play.serves()
    play.asks()
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: no\r\n\r\n")
    await play.turn()
    (_, response), (_, data) = play.hears()
    assert (response.ended, response.body) == (False, b"ok")
    assert isinstance(data, Data)
    assert (data.payload, data.ended, data.trailers) == (b"", True, b"x-sum: 1\r\n")
    await play.turn()
    assert not link.is_closed


async def test_trailers_of_a_request_follow_its_chunks(play: Play) -> None:
    play.serves()
    sid = play.uploads()
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    link = play.backend().link
    link.hears()
    play.tell(Data(sid, b"ab", True, "", True, None, b"x-sum: 1\r\n"))
    assert link.hears() == b"2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"
    link.says(OK)


async def test_who_reads_trailers_says_so_to_the_backend(play: Play) -> None:
    play.serves()
    play.asks(headers=b"host: h\r\nte: trailers\r\n")
    await play.turn()
    play.backend().answers_dials()
    await play.turn()
    assert b"te: trailers\r\nconnection: te\r\n" in play.backend().link.hears()
    play.backend().link.says(OK)


# -- a client that has no key: it spoke HTTP/2 --------------------------------------------------


async def asked_without_key(play: Play) -> tuple[int, Link, bytes]:
    play.serves()
    sid = play.asks(headers=b"host: example\r\nsec-websocket-version: 13\r\n", upgrade=b"websocket", version=20)
    await play.turn()
    link = play.backend().link
    (line,) = [line for line in link.hears().split(b"\r\n") if line.startswith(b"sec-websocket-key: ")]
    return sid, link, line.partition(b": ")[2]


def switched_by(accept: bytes) -> bytes:
    return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b\r\n" % accept


async def test_a_client_without_a_key_gets_one_of_ours_and_the_backends_word_is_checked(play: Play) -> None:
    sid, link, key = await asked_without_key(play)
    assert len(base64.b64decode(key, validate=True)) == 16
    link.says(switched_by(b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\n" % accept_of_key(key)))
    (_, response), _ = play.hears()
    assert (response.status, response.headers) == (101, b"sec-websocket-protocol: chat\r\n")
    play.cancels(sid)


@pytest.mark.parametrize("accept", [b"", b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"], ids=["none", "another"])
async def test_a_backend_whose_word_does_not_fit_our_key_is_a_bad_gateway(play: Play, accept: bytes) -> None:
    sid, link, _ = await asked_without_key(play)
    link.says(switched_by(accept))
    assert play.hears_response(sid).status == 502
    await play.turn()
    assert link.is_closed


async def test_every_handshake_has_a_key_of_its_own() -> None:
    assert len({fresh_key() for _ in range(100)}) == 100


def test_the_example_of_rfc_6455() -> None:
    assert accept_of_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("status", [101, 400])
async def test_a_handshake_over_http1_is_passed_as_it_is(play: Play, status: int) -> None:
    play.serves()
    sid = play.asks(upgrade=b"websocket")
    await play.turn()
    link = play.backend().link
    assert b"sec-websocket" not in link.hears()
    if status == 101:  # an HTTPUpgrade tunnel
        link.says(switched_by(b""))
        (_, response), _ = play.hears()
        assert (response.status, response.headers) == (101, b"")
        play.sends(sid, b"any bytes")
        assert link.hears() == b"any bytes"
        play.cancels(sid)
    else:
        link.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        assert play.hears_response(sid).status == 400


# -- a request with a body (docker exec) --------------------------------------------------------------

TCP = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@pytest.mark.parametrize("framing", ["whole", "length", "chunks"])
async def test_the_switch_comes_after_the_body(play: Play, framing: str) -> None:
    play.serves()
    if framing == "whole":
        sid = play.posts(b"{json}", upgrade=b"tcp")
    else:
        sid = play.uploads(length=6 if framing == "length" else UNKNOWN, upgrade=b"tcp")
    await play.turn()
    link = play.backend().link
    if framing != "whole":
        play.hears()
        play.sends(sid, b"{json")
        play.sends(sid, b"}", ended=True)
    asked = link.hears()
    assert b"connection: upgrade\r\nupgrade: tcp\r\n" in asked
    assert asked.endswith(b"\r\n\r\n" + (b"5\r\n{json\r\n1\r\n}\r\n0\r\n\r\n" if framing == "chunks" else b"{json}"))
    link.says(TCP + b"$ ")
    (_, response), (_, credit) = play.hears()
    assert (response.status, response.body, credit.bytes) == (101, b"$ ", WINDOW)
    play.sends(sid, b"ls\n")
    assert link.hears() == b"ls\n"
    play.sends(sid, b"", ended=True)
    assert link.transport.eof_sent
    link.says(b"files")
    link.closes()
    assert play.hears_data(sid) == [(b"files", False, ""), (b"", True, "")]


async def test_a_switch_before_the_body_was_sent_is_a_bad_gateway(play: Play) -> None:
    play.serves()
    sid = play.uploads(length=6, upgrade=b"tcp")
    await play.turn()
    play.hears()
    play.sends(sid, b"{js")
    play.backend().link.says(TCP)
    assert play.hears_response(sid).status == 502


async def test_other_upgrades_have_no_key(play: Play) -> None:
    play.serves()
    sid = play.asks(upgrade=b"chat", version=20)
    await play.turn()
    assert b"sec-websocket" not in play.backend().link.hears()
    play.cancels(sid)


@pytest.mark.parametrize("first", ["backend", "client"])
@pytest.mark.parametrize("size", [1000, 512 * 1024])
async def test_the_last_bytes_of_a_tunnel_wait_for_a_backend_that_is_slow(play: Play, first: str, size: int) -> None:
    sid, link = await switched(play)
    link.stops_reading()
    if first == "backend":
        link.closes()
        play.sends(sid, b"x" * size, ended=True)
    else:
        play.sends(sid, b"x" * size, ended=True)
        link.closes()
    await play.turn()
    assert play.hears_data(sid) == [(b"", True, "")]
    link.reads()
    await play.turn()
    assert link.hears() == b"x" * size
    assert link.is_closed


async def test_a_backend_that_takes_nothing_of_the_last_bytes_of_a_tunnel_is_given_up(play: Play) -> None:
    sid, link = await switched(play, write_timeout=10.0)
    link.stops_reading()
    link.closes()
    play.sends(sid, b"x" * 1000, ended=True)
    await play.passes(9)
    link.reads(500)
    await play.passes(9)
    assert link.transport.get_write_buffer_size() == 500
    await play.passes(12)
    assert link.transport.is_lost


async def test_the_phrase_of_a_switch_is_kept(play: Play) -> None:
    sid, link = await asked(play)
    link.says(SWITCHED.replace(b"Switching Protocols", b"Web Socket Protocol Handshake"))
    assert play.hears()[0][1].reason == b"Web Socket Protocol Handshake"
    play.cancels(sid)
