"""Clients that leave, requests that are refused, doors that are full or draining."""

from __future__ import annotations

import pytest

from pingap.config.model import Server
from pingap.stages.accept.actor import AcceptActor
from pingap.stages.messages import WINDOW, Done
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Play, get, post
from tests.kit.context import FakeContext

CREW = {ROUTING, PLUGINS, UPSTREAM}


@pytest.mark.parametrize("way", ["resets", "shuts_its_side"])
async def test_a_client_that_leaves_is_forgotten_by_all_three_and_logged_as_499(play: Play, way: str) -> None:
    client = play.connects()
    client.says(get(b"/slow"))
    play.hears_request()
    getattr(client, way)()
    await play.turn()
    assert play.hears_cancels() == CREW
    assert (play.event.status, play.event.error, play.event.target) == (499, "client_closed", b"/slow")
    assert not play.is_holding


@pytest.mark.parametrize("way", ["resets", "shuts_its_side"])
async def test_a_client_that_leaves_in_mid_answer_stops_it_at_once(play: Play, way: str) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    client.stops_reading()
    play.answers(request, ended=False, watchers=(ROUTING,))
    play.streams(request, b"x" * 1000)
    getattr(client, way)()
    await play.turn()
    heard = play.stages_hear()
    assert {to for to, envelope in heard if not isinstance(envelope, Done)} == CREW
    assert [to for to, envelope in heard if isinstance(envelope, Done)] == [ROUTING]
    assert (play.event.status, play.event.sent) == (200, 1000)


async def test_a_client_that_leaves_while_it_uploads_is_forgotten(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 1000000", body=b"x" * 500_000))
    play.hears_request()
    client.resets()
    await play.turn()
    assert play.hears_cancels() == CREW
    assert play.event.status == 499


async def test_a_client_that_leaves_in_the_middle_of_a_head_leaves_nothing(play: Play) -> None:
    client = play.connects()
    client.says(get()[:20])
    client.shuts_its_side()
    await play.turn()
    assert client.transport.is_lost
    assert play.hears_nothing()
    assert play.events == []


@pytest.mark.parametrize("way", ["resets", "shuts_its_side"])
async def test_a_client_that_leaves_in_the_middle_of_a_small_body_is_logged_as_499(play: Play, way: str) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 5", body=b"he"))
    getattr(client, way)()
    await play.turn()
    assert client.transport.is_lost
    assert play.hears_nothing()
    event = play.event
    assert (event.method, event.target, event.status, event.error) == (b"POST", b"/", 499, "client_closed")
    assert (event.received, event.sent) == (2, 0)


async def test_a_client_that_has_got_its_answer_may_shut_its_side_while_it_reads(play: Play) -> None:
    client = play.connects()
    client.stops_reading()
    client.says(get())
    play.answers(play.hears_request(), body=b"x" * 1000)
    client.shuts_its_side()
    client.reads()
    await play.turn()
    assert client.hears().endswith(b"x" * 1000)
    assert client.transport.is_lost
    assert play.event.error == ""


async def test_watchers_hear_that_a_stream_is_done_exactly_once(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request, watchers=(ROUTING, PLUGINS), ended=False)
    assert play.hears_nothing()
    play.streams(request, b"", ended=True)
    assert play.stages_hear() == [(ROUTING, Done(request.sid)), (PLUGINS, Done(request.sid))]
    client.resets()
    await play.turn()
    assert play.hears_nothing()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (get(b"/", b"X : y"), 400),
        (b"TRACE" + get()[3:], 501),
        (get(version=b"1.2"), 505),
        (get(b"/" + b"a" * 20_000), 414),
        (get(b"/", b"X-A: " + b"a" * 70_000), 431),
        (get(b"/", *[b"X-A: 1"] * 101), 431),
        (post(b"Content-Length: 5", b"Expect: x"), 417),
        (get(b"/" + b"a" * 100_000), 414),
    ],
)
async def test_a_refusal_is_an_error_page_and_the_end_of_the_connection(play: Play, said: bytes, status: int) -> None:
    client = play.connects()
    client.says(said + get(b"/next"))
    await play.turn()
    head, _, body = client.hears().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head + b"\r\n"
    assert body
    assert client.transport.eof_sent
    assert play.hears_nothing()
    assert (play.event.status, play.event.sent) == (status, len(body))
    assert play.actor.figures()["requests"] == 1


async def test_a_bare_lf_is_refused_without_waiting_for_an_end_of_the_head_that_cannot_come(play: Play) -> None:
    client = play.connects()
    client.says(b"GET / HTTP/1.1\nHost: a\n\n")
    assert client.hears().startswith(b"HTTP/1.1 400 ")


async def test_the_page_of_a_refusal_is_the_configured_one(play: Play) -> None:
    play.commits(2, template="<p>{{error_type}}</p>")
    client = play.connects()
    client.says(b"garbage\r\n\r\n")
    assert client.hears().endswith(b"<p>bad_request</p>")


async def test_our_own_answer_to_head_has_no_body_but_its_length(play: Play) -> None:
    client = play.connects()
    play.context.stuck.add(ROUTING)
    client.says(b"HEAD" + get()[3:])
    await play.turn()
    head, _, body = client.hears().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == b""
    assert b"content-length: 0" not in head


# -- doors ----------------------------------------------------------------------------


async def test_a_door_takes_no_more_connections_than_its_cap_and_takes_new_ones_when_old_ones_leave(play: Play) -> None:
    first = play.connects(max_connections=2)
    door = first.connection.door
    second = play.connects(door=door)
    third = play.connects(door=door)
    assert third.transport.is_lost
    assert not second.transport.is_lost
    assert play.context.counted == {"connections_refused": 1}
    await play.turn()
    first.resets()
    await play.turn()
    fourth = play.connects(door=door)
    assert not fourth.transport.is_lost
    fourth.says(get())
    play.answers(play.hears_request())


async def test_when_the_way_to_routing_is_stuck_requests_are_shed_with_503_and_a_time(play: Play) -> None:
    client = play.connects()
    play.context.stuck.add(ROUTING)
    client.says(get() + get())
    await play.turn()
    await play.turn()
    heard = client.hears()
    assert heard.count(b"HTTP/1.1 503 ") == heard.count(b"\r\nretry-after: 1\r\n") == 2
    assert not client.is_closed
    assert play.hears_nothing()
    assert play.context.counted == {"shed": 2}
    play.context.stuck.clear()
    client.says(get())
    play.answers(play.hears_request(), body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_a_client_that_leaves_before_it_is_shed_gets_no_answer(play: Play) -> None:
    client = play.connects()
    play.context.stuck.add(ROUTING)
    client.says(get())
    client.transport.is_lost = True
    client.connection.connection_lost(None)
    await play.turn()
    assert client.hears() == b""
    assert play.event.status == 499


async def test_draining_closes_the_idle_ones_at_once_and_the_others_after_their_answers(play: Play) -> None:
    idle, busy, head, body, streaming = (play.connects() for _ in range(5))
    busy.says(get())
    request = play.hears_request()
    head.says(get()[:10])
    body.says(post(b"Content-Length: 5", body=b"he"))
    streaming.says(get())
    long = play.hears_request()
    play.answers(long, ended=False)
    play.actor.begin_drain(0.0)
    await play.turn()
    assert idle.transport.is_lost
    assert play.actor.held() == 4
    late = play.connects()
    assert late.transport.is_lost
    play.answers(request, body=b"x")
    assert busy.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"
    head.says(get()[10:])
    play.answers(play.hears_request())
    body.says(b"llo")
    play.answers(play.hears_request())
    play.streams(long, b"x", ended=True)
    await play.turn()
    await play.passes(1)
    assert play.actor.held() == 0
    assert streaming.hears().endswith(b"1\r\nx\r\n0\r\n\r\n")


async def test_who_has_others_to_go_to_learns_of_the_drain_from_an_answer(play: Play) -> None:
    used, idle = play.connects(), play.connects()
    used.says(get())
    play.answers(play.hears_request(), body=b"x")
    used.hears()
    play.actor.begin_drain(2.0)
    await play.turn()
    late = play.connects()
    await play.passes(1)
    assert play.actor.held() == 3
    for client in (used, late):
        client.says(get())
        play.answers(play.hears_request(), body=b"x")
        assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"
    assert not idle.is_closed
    await play.passes(2)
    assert idle.is_closed
    assert play.actor.held() == 0


async def test_draining_waits_for_an_answer_that_is_still_in_the_buffer(play: Play) -> None:
    client = play.connects()
    client.stops_reading()
    client.says(get())
    play.answers(play.hears_request(), body=b"x" * 1000)
    play.actor.begin_drain(0.0)
    await play.turn()
    assert play.actor.held() == 1
    client.reads()
    await play.turn()
    assert play.actor.held() == 0
    assert client.hears().endswith(b"x" * 1000)


async def test_draining_does_not_wait_for_the_rest_of_a_body_that_was_answered(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 1000000", body=b"x"))
    play.answers(play.hears_request())
    play.actor.begin_drain(0.0)
    await play.passes(4)
    assert play.actor.held() == 0


async def test_a_reload_changes_what_open_connections_obey(play: Play) -> None:
    client = play.connects(keepalive_timeout=75)
    play.actor._doors._doors["web"] = client.connection.door
    play.commits(2, servers={"web": Server(addr=(), keepalive_timeout=5, max_headers=3)})
    client.says(get())
    request = play.hears_request()
    assert request.generation == 2
    play.answers(request)
    await play.passes(6)
    assert client.is_closed
    client = play.connects(door=client.connection.door)
    client.says(get(b"/", *[b"X: y"] * 5))
    assert client.hears().startswith(b"HTTP/1.1 431 ")


async def test_stopping_closes_every_connection(play: Play) -> None:
    clients = [play.connects() for _ in range(3)]
    clients[0].says(get())
    play.hears_request()
    await play.actor.stop()
    await play.turn()
    assert all(client.transport.is_lost for client in clients)


async def test_a_fresh_actor_has_nothing_and_stops_cleanly() -> None:
    actor = AcceptActor(FakeContext("accept", 1))
    assert actor.held() == 0
    assert actor.figures() == {"in_flight": 0, "requests": 0, "connections": 0}
    await actor.stop()


async def test_figures_count_what_is_in_flight(play: Play) -> None:
    client, _ = play.connects(), play.connects()
    client.says(get())
    request = play.hears_request()
    assert play.actor.figures() == {"in_flight": 1, "requests": 1, "connections": 2}
    play.grants(request, WINDOW)
    play.answers(request)
    assert play.actor.figures()["in_flight"] == 0
