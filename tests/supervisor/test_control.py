"""The control socket: who is believed, and which question an outcome answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from pingap import stage_questions
from pingap.bus.kinds import ASK, HELLO, MEMBERS, REPLY, REPORT, STOP, TELL
from pingap.control import Control

CONFIG = SimpleNamespace(key=7, pid=4242, ids=(1,), role=SimpleNamespace(stages=("config",)))
DISCOVERY = SimpleNamespace(key=8, pid=4243, ids=(2,), role=SimpleNamespace(stages=("discovery",)))
FIRST = SimpleNamespace(key=9, pid=4244, ids=(3,), role=SimpleNamespace(stages=("plugins",)), state="ready")
SECOND = SimpleNamespace(key=10, pid=4245, ids=(4,), role=SimpleNamespace(stages=("plugins",)), state="ready")
STARTED = SimpleNamespace(key=11, pid=4246, ids=(5,), role=SimpleNamespace(stages=("plugins",)), state="starting")
PEER, OTHER, ASKER = b"config", b"discovery", b"asker"


class Script:
    """A control socket without sockets; of its fleet config has said HELLO, and discovery and three of plugins have not."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.fed: list[Any] = []
        table = SimpleNamespace(announcement=SimpleNamespace(seq=1, newest=1, rows=[]))
        all_of_them = (CONFIG, DISCOVERY, STARTED, FIRST, SECOND)
        by_actor = {process.ids[0]: process for process in all_of_them}
        fleet = SimpleNamespace(processes={process.key: process for process in all_of_them}, of_actor=by_actor.get, table=table)
        self.control = Control(self, "/nowhere", fleet, self.fed.append, self.reported, {})  # type: ignore[arg-type]

    def router(self, endpoint: str, take: Any) -> Any:
        self.take = take
        return SimpleNamespace(send=self.send)

    def send(self, peer: bytes, envelope: Any) -> bool:
        self.sent.append((peer, envelope))
        return True

    def reported(self, word: str, value: Any) -> None:
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


@pytest.fixture
async def with_plugins(script: Script) -> Script:
    for process, name in ((STARTED, b"started"), (FIRST, b"first"), (SECOND, b"second")):
        script.on(name, HELLO, process.ids, process.pid, 1)
    return script


async def test_one_replica_that_is_ready_is_asked_what_all_would_say(with_plugins: Script) -> None:
    ((peer, (kind, word, _)),) = with_plugins.on(ASKER, ASK, 5, "cache-purge", ("all",))
    assert (peer, kind, word) == (b"first", TELL, "cache-purge")
    with_plugins.sent.clear()
    with_plugins.control.forget(FIRST.key)
    assert [envelope[:3] for _, envelope in with_plugins.sent] == [(REPLY, 5, False)], "nobody else was asked"
    ((peer, _),) = with_plugins.on(ASKER, ASK, 6, "cache-purge", ("all",))
    assert peer == b"second"


async def test_nobody_who_only_starts_is_asked(script: Script) -> None:
    script.on(b"started", HELLO, STARTED.ids, STARTED.pid, 1)
    ((_, (_, _, ok, reason)),) = script.on(ASKER, ASK, 5, "cache-explain", ())
    assert not ok and "no process of the plugins stage is ready" in reason


async def test_what_each_replica_says_comes_together(with_plugins: Script) -> None:
    sent = with_plugins.on(ASKER, ASK, 5, "cache-stats", ())
    assert [peer for peer, _ in sent] == [b"started", b"first", b"second"]
    (asked,) = {envelope[2][0] for _, envelope in sent}
    assert with_plugins.on(b"second", REPORT, 4, "answer", {"asked": asked, "ok": True, "value": {"hits": 2}}) == []
    assert with_plugins.on(b"first", REPORT, 3, "answer", {"asked": asked, "ok": True, "value": {"hits": 1}}) == []
    with_plugins.sent.clear()
    with_plugins.control.forget(STARTED.key)
    answer = {"answers": [{"hits": 2}, {"hits": 1}], "silent": 0}
    assert with_plugins.sent == [(ASKER, (REPLY, 5, True, answer))], "who has ended has nothing to say"


async def test_who_is_silent_keeps_nobody_waiting(with_plugins: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_questions, "ANSWER", 0.02)
    ((_, (_, _, (asked,))), *_) = with_plugins.on(ASKER, ASK, 5, "cache-stats", ())
    with_plugins.on(b"first", REPORT, 3, "answer", {"asked": asked, "ok": True, "value": 1})
    with_plugins.sent.clear()
    while not with_plugins.sent:
        await asyncio.sleep(0.001)
    assert with_plugins.sent == [(ASKER, (REPLY, 5, True, {"answers": [1], "silent": 2}))]
