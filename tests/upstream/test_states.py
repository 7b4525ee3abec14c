"""The table of an exchange's states: every move in it is made, and a move that is not in it is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages import states as machine
from pingap.stages.states import IllegalMove
from pingap.stages.upstream.states import ANSWERING, ASKING, HALF_SHUT, MOVES, OVER, TUNNEL, ExchangeState
from tests.upstream.playbook import OK, Play

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


def test_every_state_is_in_the_table_and_but_the_last_can_be_left() -> None:
    assert set(MOVES) == set(ExchangeState)
    assert [state for state in MOVES if not MOVES[state]] == [OVER]


@pytest.mark.interpreted
async def test_the_moves_of_the_table_are_made(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    made = set()
    move = machine._Checked.__set__

    def notes(self: Any, instance: Any, state: Any) -> None:
        made.add((instance.state, state))
        move(self, instance, state)

    monkeypatch.setattr(machine._Checked, "__set__", notes)
    play.serves()
    await play.fetches()
    play.cancels(play.asks())
    for closes in (True, False):
        sid = play.asks(upgrade=b"echo")
        await play.turn()
        link = play.backend().link
        link.says(SWITCHED)
        if closes:
            link.closes()
        play.cancels(sid)
    play.hears()
    await play.turn()
    assert made == {(before, after) for before, them in MOVES.items() for after in them}
    assert {ASKING, ANSWERING, TUNNEL, HALF_SHUT} == {before for before, _ in made}


@pytest.mark.interpreted
async def test_a_move_that_the_table_has_not_is_refused(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    exchange = play.actor._exchanges[sid]
    with pytest.raises(IllegalMove):
        exchange.state = TUNNEL
    machine.broken.clear()
    play.backend().link.says(OK)
    play.hears_response(sid)
    with pytest.raises(IllegalMove):
        exchange.state = ANSWERING
    machine.broken.clear()
