"""The control socket: who is believed, and which question an outcome answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from pingap.bus.kinds import ASK, HELLO, MEMBERS, REPLY, REPORT, STOP, TELL
from pingap.control import Control

CONFIG = SimpleNamespace(key=7, pid=4242, ids=(1,), role=SimpleNamespace(stages=("config",)))
PEER, ASKER = b"config", b"asker"


class Script:
    """A control socket without sockets; its fleet has one process, the config stage."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.fed: list[Any] = []
        table = SimpleNamespace(announcement=SimpleNamespace(seq=1, newest=1, rows=[]))
        fleet = SimpleNamespace(processes={7: CONFIG}, of_actor=lambda actor: CONFIG if actor == 1 else None, table=table)
        self.control = Control(self, "/nowhere", fleet, self.fed.append, self.reported, {})  # type: ignore[arg-type]

    def router(self, endpoint: str, take: Any) -> Any:
        self.take = take
        return SimpleNamespace(send=self.send)

    def send(self, peer: bytes, envelope: Any) -> bool:
        self.sent.append((peer, envelope))
        return True

    def reported(self, word: str, value: Any) -> None:
        self.control.reloaded(value)

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
    for entry in script.control._reloads:
        entry[2].cancel()


@pytest.mark.parametrize(("ids", "pid"), [((1,), 4243), ((2,), 4242)])
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
