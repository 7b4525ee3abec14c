"""The tables of states: every one is reached, and a move that is in none is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

from pingap.stages import states as machine
from pingap.stages import stream_states
from pingap.stages.accept import states
from pingap.stages.accept.outlet import WRITE_BUFFER
from pingap.stages.accept.states import BUSY, CHOKED, CLOSED, DROPPING, IDLE, LEAVING, LINGERING, OPEN, OVER
from pingap.stages.messages import INLINE, Stranded
from pingap.stages.states import IllegalMove, Moves, check_moves
from pingap.stages.stream_states import ANSWERING, ASKED, ENDED, RECALLING, WAITING, WHOLE, StreamState
from tests.accept.playbook import CREW, UPSTREAM, Client, Play, get, post
from tests.accept.test_http2 import Browser


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    machine.broken.clear()


class WithSlot:
    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = ASKED


class WithDefault:
    state: StreamState = ASKED


def reached(moves: Moves, start: Any) -> set[Any]:
    seen: set[Any] = set()
    waiting = [start]
    while waiting:
        new = set(moves[waiting.pop()]) - seen
        seen |= new
        waiting += new
    return seen | {start}


@pytest.mark.parametrize(("moves", "start"), [(stream_states.MOVES, ASKED), (states.HTTP1_MOVES, IDLE), (states.HTTP2_MOVES, OPEN)])
def test_every_state_is_in_the_table_and_can_be_come_to_and_left(moves: Moves, start: Any) -> None:
    kind: type[Enum] = type(start)
    assert set(moves) == set(kind) == reached(moves, start)
    last = [state for state in moves if not moves[state] - {state}]
    assert last == [max(moves, key=list(kind).index)], "one state only is the end"


@pytest.mark.parametrize("kind", [WithSlot, WithDefault])
def test_a_move_that_the_table_has_not_is_refused_and_remembered(kind: Any) -> None:
    check_moves(kind, "state", stream_states.MOVES)
    check_moves(kind, "state", stream_states.MOVES)  # once is enough
    one, other = kind(), kind()
    one.state = ANSWERING
    one.state = WHOLE
    assert (one.state, other.state) == (WHOLE, ASKED)
    with pytest.raises(IllegalMove):
        one.state = ASKED
    assert one.state is WHOLE
    assert machine.broken == [f"{kind.__name__}: from WHOLE to ASKED"]


def state_of(client: Client) -> Any:
    """Any: it changes between two looks."""
    return client.connection._state


async def test_playbooks_hold_what_accept_does_against_its_tables(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    stream = play.actor.streams.by_sid[request.sid]
    assert (client.connection._state, stream.state) == (BUSY, ASKED)
    with pytest.raises(IllegalMove):
        client.connection._state = states.HEAD
    machine.broken.clear()
    play.answers(request, body=b"x")
    assert (client.connection._state, stream.state) == (IDLE, ENDED)
    with pytest.raises(IllegalMove):
        stream.state = WAITING
    machine.broken.clear()
    client.says(b"no request\r\n\r\n")
    assert state_of(client) is LINGERING
    client.resets()
    await play.turn()
    assert state_of(client) is CLOSED


# -- moves that other tests do not make ------------------------------------------------------


async def test_a_client_that_asks_and_does_not_read_is_choked_until_it_reads_or_leaves(play: Play) -> None:
    for reads in (True, False):
        client = play.connects()
        client.stops_reading()
        client.says(get())
        play.answers(play.hears_request(), body=b"x" * (WRITE_BUFFER + 1))
        assert state_of(client) is CHOKED
        assert not client.transport.is_reading()
        if reads:
            client.reads()
            assert state_of(client) is IDLE
            assert client.transport.is_reading()
        else:
            client.resets()
            await play.turn()
            assert state_of(client) is CLOSED


async def test_who_has_its_body_dropped_may_be_choked_too(play: Play) -> None:
    size = INLINE + 1
    client = play.connects()
    client.stops_reading()
    client.says(post(b"Content-Length: %d" % size, body=b"x"))
    request = play.hears_request()
    play.answers(request, body=b"x" * (WRITE_BUFFER + 1))
    assert state_of(client) is DROPPING
    client.says(b"x" * (size - 1))
    assert state_of(client) is CHOKED
    client.reads()
    assert state_of(client) is IDLE


async def test_an_http2_client_may_leave_between_the_two_goaways(play: Play) -> None:
    browser = Browser(play, "h2")
    browser.asks()
    play.hears_request()
    play.actor.begin_drain(0.0)
    assert state_of(browser.client) is LEAVING
    browser.client.resets()
    await play.turn()
    assert state_of(browser.client) is OVER


async def test_a_stream_that_is_recalled_may_turn_out_to_need_plugins_that_nobody_is(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    stream = play.actor.streams.by_sid[request.sid]

    def state() -> Any:
        return stream.state

    play.members((UPSTREAM, "upstream"))
    assert state() is RECALLING
    play.tell(Stranded(request.sid))
    assert state() is WAITING
    play.members(*CREW)
    assert state() is ASKED
