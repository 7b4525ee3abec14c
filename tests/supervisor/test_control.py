"""The control socket: who is believed, and which question an outcome answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from pingap.bus.kinds import ASK, HELLO, MEMBERS, REPLY, REPORT, STOP, TELL
from pingap.control import Control

CONFIG = SimpleNamespace(key=7, pid=4242, ids=(1,), role=SimpleNamespace(stages=("config",)))
DISCOVERY = SimpleNamespace(key=8, pid=4243, ids=(2,), role=SimpleNamespace(stages=("discovery",)))
PEER, OTHER, ASKER = b"config", b"discovery", b"asker"


class Script:
    """A control socket without sockets; its fleet has two processes, config, which has said HELLO, and discovery, which has not."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.fed: list[Any] = []
        table = SimpleNamespace(announcement=SimpleNamespace(seq=1, newest=1, rows=[]))
        fleet = SimpleNamespace(processes={7: CONFIG, 8: DISCOVERY}, of_actor={1: CONFIG, 2: DISCOVERY}.get, table=table)
        self.control = Control(self, "/nowhere", fleet, self.fed.append, self.reported, {})  # type: ignore[arg-type]

    def router(self, endpoint: str, take: Any) -> Any:
        self.take = take
        return SimpleNamespace(send=self.send)

    def send(self, peer: bytes, envelope: Any) -> bool:
        self.sent.append((peer, envelope))
        return True

    def reported(self, word: str, value: Any) -> None:
        if word == "answer":
            self.control.of_stages.answer(value["asked"], value["ok"], value["value"])
        else:
            self.control.of_stages.settle(value["word"], value["asked"], value)

    def on(self, peer: bytes, *envelope: Any) -> list[tuple[bytes, Any]]:
        """What is sent when this comes."""
        self.sent.clear()
        self.take(peer, [envelope])
        return list(self.sent)

    def outcome(self, asked: int, word: str = "reload") -> list[int]:
        """The questions that are answered when config reports."""
        sent = self.on(PEER, REPORT, 1, "generation", {"word": word, "asked": asked})
        return [envelope[1] for peer, envelope in sent if peer == ASKER and envelope[0] == REPLY]

    def ask(self, number: int, word: str = "reload") -> int:
        """The number of the TELL that config gets."""
        ((peer, (kind, told, (asked,))),) = self.on(ASKER, ASK, number, word, ())
        assert (peer, kind, told) == (PEER, TELL, word)
        return int(asked)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    assert [envelope[0] for _, envelope in script.on(PEER, HELLO, (1,), 4242, 1)] == [MEMBERS]
    yield script
    script.control.of_stages.close()


@pytest.mark.parametrize(("ids", "pid"), [((1,), 4243), ((3,), 4242)])
async def test_who_has_not_the_pid_that_was_forked_for_its_ids_is_told_to_stop(ids: tuple[int, ...], pid: int) -> None:
    script = Script()
    assert script.on(b"stranger", HELLO, ids, pid, 1) == [(b"stranger", (STOP,))]
    assert script.fed == []
    assert not script.control.stop(7), "it is not taken for the process"


async def test_the_outcome_of_a_change_that_config_noticed_by_itself_answers_no_question(script: Script) -> None:
    asked = script.ask(1)
    assert script.outcome(0) == []
    assert script.outcome(asked) == [1]
    assert script.outcome(asked) == [], "once"


async def test_an_outcome_answers_those_who_had_asked_before_the_files_were_read(script: Script) -> None:
    first, second = script.ask(1), script.ask(2)
    dry = script.ask(3, "dry-run")
    assert first < second < dry
    assert script.outcome(first) == [1]
    assert script.outcome(dry, "dry-run") == [3]
    third = script.ask(4)
    assert script.outcome(third) == [2, 4]


async def test_a_stage_that_is_away_is_said_to_be(script: Script) -> None:
    ((peer, (kind, number, ok, reason)),) = script.on(ASKER, ASK, 5, "upstreams", ())
    assert (peer, kind, number, ok) == (ASKER, REPLY, 5, False)
    assert "the discovery stage is not running" in reason


async def test_a_question_goes_with_its_arguments_to_the_stage_that_answers_it(script: Script) -> None:
    script.on(OTHER, HELLO, (2,), 4243, 1)
    ((peer, envelope),) = script.on(ASKER, ASK, 5, "upstream-drain", ("api", "10.0.0.1:80", False))
    assert peer == OTHER
    kind, word, (asked, *args) = envelope
    assert (kind, word, args) == (TELL, "upstream-drain", ["api", "10.0.0.1:80", False])
    ((_, (_, _, (other, *_))),) = script.on(ASKER, ASK, 6, "upstream-drain", ("api", "10.0.0.2:80", False))
    answer = {"asked": other, "ok": True, "value": {"in_flight": 3}}
    assert script.on(OTHER, REPORT, 2, "answer", answer) == [(ASKER, (REPLY, 6, True, {"in_flight": 3}))], "that one alone"
    refusal = {"asked": asked, "ok": False, "value": "no such backend"}
    assert script.on(OTHER, REPORT, 2, "answer", refusal) == [(ASKER, (REPLY, 5, False, "no such backend"))]


async def test_who_asked_a_process_that_ends_hears_of_it(script: Script) -> None:
    script.on(OTHER, HELLO, (2,), 4243, 1)
    script.on(ASKER, ASK, 5, "upstreams", ())
    script.ask(6)
    script.sent.clear()
    script.control.forget(8)
    ((peer, (kind, number, ok, reason)),) = script.sent
    assert (peer, kind, number, ok) == (ASKER, REPLY, 5, False)
    assert "ended before it had answered" in reason
