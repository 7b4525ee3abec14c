"""Other actors die: what upstream says to RECALL, what it cancels, and that no stream is left without an end."""

from __future__ import annotations

import pytest

from pingap.stages.messages import ANSWER_LOST, INLINE_PAUSE, NOT_BEGUN, WILL_ANSWER, Response
from tests.upstream.playbook import ACCEPT, OK, PLUGINS, ROUTING, Play

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


async def test_a_request_that_has_not_come_is_not_begun_and_refused_from_then_on(play: Play) -> None:
    play.serves()
    sid = (ACCEPT << 32) + 500
    assert play.recalls(sid) == NOT_BEGUN
    play.asks(sid=sid)
    await play.turn()
    assert play.hears_nothing()
    assert play.backend().asked == 0
    assert play.recalls(sid) == NOT_BEGUN


@pytest.mark.parametrize("stage", ["connecting", "waiting", "sent"])
async def test_one_that_is_here_will_be_answered(play: Play, stage: str) -> None:
    play.serves(max_connections=1)
    play.backend().hangs = stage == "connecting"
    sids = [play.asks()] + ([play.asks()] if stage == "waiting" else [])
    await play.turn()
    play.without(ROUTING)
    assert play.recalls(sids[-1]) == WILL_ANSWER
    play.backend().answers_dials()
    await play.turn()
    for sid in sids:
        play.backend().link.says(OK)
        assert play.hears_response(sid).status == 200


async def test_one_whose_answer_must_go_through_dead_plugins_is_lost_and_cancelled(play: Play) -> None:
    play.serves()
    sid = play.asks(plan=4)
    await play.turn()
    play.without(PLUGINS)
    assert play.hears_nothing(), "accept asks, and hears it then"
    assert play.recalls(sid) == ANSWER_LOST
    assert play.backend().link.is_closed
    await play.turn()
    assert play.hears_nothing()


async def test_one_that_was_answered_through_plugins_is_lost_with_them(play: Play) -> None:
    play.serves()
    sid = play.asks(plan=4)
    await play.turn()
    play.backend().link.says(OK)
    play.hears_response(sid, to=PLUGINS)
    assert play.recalls(sid) == WILL_ANSWER, "plugins has it, and lives: it was routing that died"
    play.without(PLUGINS)
    play.hears()
    assert play.recalls(sid) == ANSWER_LOST, "it must not be begun again as if nothing had happened"
    play.asks(sid=(ACCEPT << 32) + 900)
    await play.turn()
    play.backend().link.says(OK)
    play.hears()


async def test_an_error_that_went_through_plugins_is_lost_with_them_too(play: Play) -> None:
    play.serves("")
    sid = play.asks(plan=4)
    play.hears_response(sid, to=PLUGINS)
    play.without(PLUGINS)
    assert play.recalls(sid) == ANSWER_LOST


async def test_one_that_was_answered_straight_to_accept_is_not_remembered(play: Play) -> None:
    """Its answer is in accept's inbox before RECALLED, which accept then ignores."""
    play.serves()
    await play.fetches()
    assert play.recalls((ACCEPT << 32) + 1) == NOT_BEGUN


@pytest.mark.parametrize("begun", [False, True])
async def test_when_accept_is_gone_so_is_the_client(play: Play, begun: bool) -> None:
    play.serves(max_connections=1)
    sid = play.asks()
    waiting = play.asks()
    await play.turn()
    if begun:
        play.backend().link.says(HEAD)
        play.hears_response(sid)
    play.without(ACCEPT)
    assert play.backend().links[0].is_closed
    assert waiting not in play.actor._exchanges
    await play.turn()
    assert play.hears_nothing()


async def test_when_plugins_is_gone_the_rest_of_a_begun_answer_goes_nowhere(play: Play) -> None:
    play.serves()
    sid, other = play.asks(plan=4), play.asks()
    await play.turn()
    first, second = play.backend().links
    first.says(HEAD)
    await play.passes(INLINE_PAUSE)
    play.hears_response(sid, to=PLUGINS)
    play.without(PLUGINS)
    assert first.is_closed
    assert play.hears_nothing(), "accept knows, and cuts it off"
    second.says(OK)
    assert play.hears_response(other).status == 200, "the others go on"


async def test_the_end_of_routing_is_of_no_matter_here(play: Play) -> None:
    play.serves()
    sid = play.asks(plan=7)
    await play.turn()
    play.without(ROUTING)
    play.backend().link.says(OK)
    play.hears_response(sid, to=PLUGINS)


# -- tables that come late ---------------------------------------------------------------------


async def test_a_promise_that_plugins_took_with_it_is_made_good(play: Play) -> None:
    """Accept had the newer table: it asked because of plugins, and was told that plugins would answer."""
    play.serves()
    sid = play.asks(plan=4, watchers=(11,))
    await play.turn()
    assert play.recalls(sid) == WILL_ANSWER
    play.without(PLUGINS)
    response = play.hears_response(sid, to=ACCEPT)
    assert response.status == 502
    assert response.watchers == (11,)
    assert play.backend().link.is_closed


async def test_a_promise_of_an_answer_that_plugins_had_already_is_made_good_too(play: Play) -> None:
    play.serves()
    sid = play.asks(plan=4, watchers=(11,))
    await play.turn()
    play.backend().link.says(OK)
    play.hears_response(sid, to=PLUGINS)
    assert play.recalls(sid) == WILL_ANSWER
    play.without(ROUTING)
    assert play.hears_nothing(), "that is not who it depends on"
    play.without(ROUTING, PLUGINS)
    response = play.hears_response(sid, to=ACCEPT)
    assert (response.status, response.ended, response.watchers) == (502, True, (11,))
    play.without(ROUTING, PLUGINS)
    assert play.hears_nothing(), "once"


async def test_a_promise_that_no_longer_depends_on_plugins_is_kept(play: Play) -> None:
    """Two answers to one request would be as bad as none."""
    play.serves()
    sid, other = play.uploads(plan=2), play.uploads(plan=2)
    await play.turn()
    play.hears()
    assert play.recalls(sid) == play.recalls(other) == WILL_ANSWER
    play.sends(sid, b"all", ended=True)
    play.sends(other, b"all", ended=True)
    first, second = play.backend().links
    second.says(OK)
    assert play.hears_response(other).status == 200
    play.without(PLUGINS)
    assert play.hears_nothing()
    first.says(OK)
    assert play.hears_response(sid).status == 200


# -- request bodies through plugins ------------------------------------------------------------


async def test_an_upload_through_dead_plugins_cannot_be_completed(play: Play) -> None:
    play.serves()
    sid = play.uploads(plan=2)
    await play.turn()
    play.hears_credit(sid, PLUGINS)
    play.sends(sid, b"half")
    play.without(PLUGINS)
    assert play.hears_nothing()
    assert play.recalls(sid) == ANSWER_LOST
    assert not play.backend().link.hears().endswith(b"0\r\n\r\n")
    assert play.backend().link.is_closed


async def test_an_upload_that_had_come_through_is_none_of_their_business_any_more(play: Play) -> None:
    play.serves()
    sid = play.uploads(plan=2)
    await play.turn()
    play.sends(sid, b"all", ended=True)
    play.without(PLUGINS)
    play.hears()
    assert play.recalls(sid) == WILL_ANSWER
    play.backend().link.says(OK)
    assert play.hears_response(sid).status == 200


async def test_an_answer_to_an_upload_that_breaks_off_breaks_off_too(play: Play) -> None:
    play.serves()
    sid = play.uploads(plan=2)
    await play.turn()
    play.hears_credit(sid, PLUGINS)
    play.backend().link.says(HEAD)
    play.hears_response(sid)
    play.without(PLUGINS)
    assert play.hears_data(sid) == [(b"", False, "stage_lost")]
    assert play.backend().link.is_closed


# -- at most one answer ----------------------------------------------------------------------------


def fails(*_: object) -> bytes:
    raise RuntimeError("a bug")


@pytest.mark.interpreted
async def test_a_fault_of_ours_is_answered_and_answered_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.serves("a:1 b:1", location={"proxy_set_headers": (("x-addr", "$upstream_addr"),)})
    play.health(api={"b:1": False})
    first = await play.fetches(address="a:1")
    play.health()
    rules = play.actor._current.rules["site"]  # type: ignore[union-attr]

    monkeypatch.setattr(type(rules), "leaving", fails)
    sids = [play.asks() for _ in range(3)]
    await play.turn()
    heard = play.hears()
    assert sorted(envelope.sid for _, envelope in heard) == sids
    assert all(isinstance(envelope, Response) and envelope.status == 500 for _, envelope in heard)
    assert first.is_closed
    play.context.logged.clear()


async def test_stopping_lets_go_of_everything(play: Play) -> None:
    play.serves(max_connections=2)
    play.asks()
    await play.turn()
    play.backend().link.says(HEAD)
    play.backend().hangs = True
    play.asks(), play.asks()
    await play.turn()
    await play.actor.stop()
    await play.turn()
    assert not play.backend().open
    assert not play.backend().dialing


@pytest.mark.interpreted
async def test_a_fault_in_who_waited_is_not_taken_for_one_of_who_was_before(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.serves(max_connections=1, location={"proxy_set_headers": (("x-addr", "$upstream_addr"),)})
    first, second = play.asks(), play.asks()
    await play.turn()
    monkeypatch.setattr(type(play.actor._current.rules["site"]), "leaving", fails)  # type: ignore[union-attr]
    play.backend().link.says(OK)
    assert [(envelope.sid, envelope.status) for _, envelope in play.hears()] == [(first, 200), (second, 500)]
    play.context.logged.clear()


@pytest.mark.interpreted
async def test_a_fault_in_a_second_attempt_is_answered_too(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.serves("a:1 b:1")
    for address in ("a:1", "b:1"):
        play.backend(address).refuses = ConnectionRefusedError("no")
    sid = play.asks()
    monkeypatch.setattr(type(play.group()), "pick", fails)
    await play.turn()
    assert play.hears_response(sid).status == 500
    play.context.logged.clear()
