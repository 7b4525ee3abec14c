"""The tables of states: every one is reached, and a move that is in none is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pingap.stages import states as machine
from pingap.stages import stream_states
from pingap.stages.accept import states
from pingap.stages.accept.states import BUSY, CLOSED, IDLE, LINGERING, OPEN
from pingap.stages.states import IllegalMove, Moves, check_moves
from pingap.stages.stream_states import ANSWERING, ASKED, ENDED, WAITING, WHOLE, StreamState
from tests.accept.playbook import Play, get


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
    assert set(moves) == set(type(start)) == reached(moves, start)
    last = [state for state in moves if not moves[state] - {state}]
    assert last == [max(moves, key=list(type(start)).index)], "one state only is the end"


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
    assert client.connection._state is LINGERING
    client.resets()
    await play.turn()
    assert client.connection._state is CLOSED
