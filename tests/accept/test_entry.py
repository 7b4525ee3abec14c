"""Connections that begin with a header of the PROXY protocol: who may, what becomes of the client's address, what is refused."""

from __future__ import annotations

import asyncio

import pytest

from pingap.stages.accept.origin import origin_of
from tests.accept.playbook import Client, Play, get

LINE = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"
TRUSTED = ("192.0.2.0/24",)  # clients of the playbook are 192.0.2.7


def behind_a_proxy(play: Play, trust: tuple[str, ...] = TRUSTED) -> Client:
    return play.connects(trust=trust, proxy_protocol=True, header_timeout=10.0)


@pytest.mark.parametrize("size", [1, 7, len(LINE), 1000])
async def test_the_client_is_whom_the_proxy_names(play: Play, size: int) -> None:
    client = behind_a_proxy(play)
    data = LINE + get(b"/behind")
    for at in range(0, len(data), size):
        client.says(data[at : at + size])
    request = play.hears_request()
    assert request.target == b"/behind"
    assert request.peer[:5] == ("203.0.113.9", 4711, "198.51.100.1", 443, "http")
    play.answers(request, body=b"ok")
    assert client.hears().endswith(b"\r\n\r\nok")
    assert play.event.client_ip == "203.0.113.9"


async def test_a_header_that_names_nobody_leaves_the_proxy_as_the_client(play: Play) -> None:
    client = behind_a_proxy(play)
    client.says(b"PROXY UNKNOWN\r\n" + get())
    assert play.hears_request().peer[:4] == ("192.0.2.7", 5000, "192.0.2.1", 80)


async def test_a_header_comes_once_and_the_next_request_without(play: Play) -> None:
    client = behind_a_proxy(play)
    client.says(LINE + get(b"/1"))
    play.answers(play.hears_request())
    client.hears()
    client.says(LINE + get(b"/2"))
    assert client.hears().startswith(b"HTTP/1.1 400 ")
    assert play.hears_nothing()


async def test_a_trusted_proxy_that_begins_otherwise_is_closed_without_an_answer(play: Play) -> None:
    client = behind_a_proxy(play)
    client.says(get())
    await play.turn()
    assert client.transport.is_lost and not client.transport.out
    assert play.hears_nothing()
    assert play.context.counted == {"proxy_headers_refused": 1}


async def test_who_is_not_trusted_is_closed_at_once_and_the_log_says_so_once_a_minute(play: Play) -> None:
    door = behind_a_proxy(play, ("10.0.0.0/8",)).connection._door
    for _ in range(3):
        client = play.connects(door=door)
        client.says(LINE + get())
        await play.turn()
        assert client.transport.is_lost and not client.transport.out
    warnings = [entry for entry in play.context.logged if entry[0] == "warn"]
    assert len(warnings) == 1
    play.clock.now += 61
    play.connects(door=door)
    assert len([entry for entry in play.context.logged if entry[0] == "warn"]) == 2
    assert play.context.counted == {"proxy_headers_refused": 5}
    assert play.hears_nothing()


async def test_a_header_that_does_not_come_is_given_up_in_the_time_of_a_head(play: Play) -> None:
    client = behind_a_proxy(play)
    for byte in LINE[:18]:
        client.says(bytes([byte]))
        await play.passes(0.5)
        assert not client.is_closed
    await play.passes(2)
    assert client.transport.is_lost


async def test_a_proxy_that_leaves_before_its_header_leaves_nothing_behind(play: Play) -> None:
    client = behind_a_proxy(play)
    client.says(LINE[:20])
    client.resets()
    await play.turn()
    assert play.actor.held() == 0


async def test_after_the_header_the_head_has_its_own_time(play: Play) -> None:
    client = behind_a_proxy(play)
    await play.passes(8)
    client.says(LINE)
    await play.passes(8)
    assert not client.is_closed
    await play.passes(3)
    assert client.is_closed


async def test_a_connection_that_has_just_begun_outlives_a_drain_with_a_reprieve(play: Play) -> None:
    client = behind_a_proxy(play)
    play.actor.begin_drain(2.0)
    await play.passes(3)
    assert not client.transport.is_lost


async def test_draining_closes_connections_that_wait_for_their_header(play: Play) -> None:
    client = behind_a_proxy(play)
    play.actor.begin_drain(0.0)
    await play.turn()
    assert client.transport.is_lost


@pytest.mark.parametrize(
    ("peer", "local", "origin"),
    [
        (("192.0.2.7", 5000), ("192.0.2.1", 80), ("192.0.2.7", 5000, "192.0.2.1", 80)),
        (("::ffff:192.0.2.7", 5000, 0, 0), ("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.7", 5000, "192.0.2.1", 80)),
        (("2001:db8::7", 5000, 0, 0), ("2001:db8::1", 80, 0, 0), ("2001:db8::7", 5000, "2001:db8::1", 80)),
        (None, None, ("", 0, "", 0)),
    ],
)
def test_both_ends_of_an_ipv4_connection_are_ipv4_on_a_listener_for_both_families(
    peer: tuple[object, ...] | None, local: tuple[object, ...] | None, origin: tuple[str, int, str, int]
) -> None:
    assert origin_of(asyncio.BaseTransport({"peername": peer, "sockname": local})) == origin
