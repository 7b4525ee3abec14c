"""The core with anything that can happen, in any order, by a clock that jumps: nothing is forgotten, nothing is done twice at once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.acme.core import AT_ONCE
from pingap.stages.acme.words import (
    AskWindow,
    BeginTry,
    Command,
    Event,
    HandshakeMade,
    LeaveTry,
    MakeHandshake,
    RenewAsked,
    Settle,
    ShelfAway,
    TakenByAll,
    TryFailed,
    TrySucceeded,
    TryWasAnothers,
    WindowTold,
)
from tests.acme.playbook import DAY, HOUR, NOW, Script, held, want

WANTED = [
    want("a"),
    want("a", "a.example", "www.a.example"),
    want("a", challenge="tls-alpn-01"),
    want("b"),
    want("b", key_type="rsa-2048", buffer_days=30),
    want("c", "a.example"),
    want("d", directory="https://other.example/"),
    want("e"),
    want("f"),
]

JUMPS = st.sampled_from([0.0, 0.1, 1.0, 20.0, 300.0, HOUR, 6 * HOUR, DAY, 30 * DAY, 61 * DAY, 400 * DAY, -1.0, -HOUR, -100 * DAY])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("time"), JUMPS),
        st.tuples(st.just("wish"), st.lists(st.sampled_from(WANTED), max_size=6, unique_by=lambda one: one.name)),
        st.tuples(st.sampled_from(["end", "look", "window"]), st.integers(0, 99)),
        st.tuples(st.just("ask"), st.sampled_from("abcdex")),
        st.tuples(st.sampled_from(["read", "away", "taken", "restarted"]), st.just(0)),
    ),
    max_size=60,
)


class Run:
    """What is under way, and what must hold after each event."""

    def __init__(self) -> None:
        self.script = Script()
        self.tries: dict[str, BeginTry] = {}
        self.looks: list[MakeHandshake] = []
        self.questions: list[AskWindow] = []
        self.waiting: dict[str, int] = {}
        self.number = 0

    def on(self, *events: Event) -> None:
        self.note(self.script.on(*events))

    def note(self, commands: list[Command]) -> None:
        for one in commands:
            match one:
                case BeginTry(wanted):
                    assert wanted.id not in self.tries, "one certificate is got twice at once"
                    self.tries[wanted.id] = one
                case LeaveTry(id):
                    del self.tries[id]
                case MakeHandshake():
                    self.looks.append(one)
                case AskWindow():
                    self.questions.append(one)
                case Settle(name):
                    assert self.waiting.pop(name, 0), "who asks is answered once"
        assert len(self.tries) <= AT_ONCE
        self.is_calm()

    def is_calm(self) -> None:
        core, now = self.script.core, self.script.now
        moment = core.next_moment(now)
        assert moment is None or moment > now, "it wants to be told again what it was told"
        assert self.script.on() == []

    def do(self, what: str, value: Any) -> None:
        script = self.script
        match what:
            case "time":
                self.note(script.later(value))
            case "wish":
                script.wanted = {one.name: one for one in value}
                self.note(script.wish(*value))
            case "end":
                self.end(value)
            case "look" if self.looks:
                look = self.looks.pop(value % len(self.looks))
                self.on(HandshakeMade(look.name, look.fingerprint, "" if value % 3 else "refused"))
            case "window" if self.questions:
                asked = self.questions.pop(value % len(self.questions))
                span = [None, (script.now, script.now + HOUR), (0.0, 1.0), (1e12, 1e13)][value % 4]
                self.on(WindowTold(asked.held.fingerprint, span, [0.0, script.now + HOUR, 1e18][value % 3]))
            case "ask":
                self.waiting[value] = 1
                self.on(RenewAsked(value))
            case "read":
                self.note(script.read())
            case "away":
                self.on(ShelfAway("gone"))
            case "taken":
                self.on(TakenByAll(script.version))
            case "restarted":
                self.restarted()

    def end(self, value: int) -> None:
        if not self.tries:
            return
        wanted = self.tries.pop(sorted(self.tries)[value % len(self.tries)]).wanted
        self.number += 1
        one = held(*wanted.domains, number=self.number, at=self.script.now)
        match value % 5:
            case 0 | 1:
                self.script.shelf[wanted.id] = one
                self.on(TrySucceeded(wanted, one))
            case 2:
                self.on(TryWasAnothers(wanted, "host:7"))
            case 3:
                self.on(TryFailed(wanted, "no", [None, 0.0, 1e18][value % 3], bool(value % 2), bool(value % 4), value > 50))
            case 4:
                self.on(TryFailed(wanted, "no"))

    def restarted(self) -> None:
        before, self.script = self.script, Script(*self.script.wanted.values())
        self.script.now, self.script.shelf, self.script.records = before.now, before.shelf, before.records
        self.tries, self.looks, self.questions, self.waiting = {}, [], [], {}
        self.note(self.script.begin())

    def comes_to_rest(self) -> None:
        """Whatever has happened: with an authority that works and a month of time, each is there, good, and shown."""
        script = self.script
        self.note(script.read())
        self.note(script.later(DAY))
        for _ in range(24 * 10):
            for _ in range(20):
                while self.tries:
                    self.end(0)
                self.on(TakenByAll(script.version))
                while self.looks:
                    self.do("look", 1)
                if not self.tries:
                    break
            self.note(script.later(HOUR))
        assert not self.waiting
        for name, wanted in script.wanted.items():
            assert script.core.step(name) == ""
            assert script.now < script.shelf[wanted.id].not_after
            assert script.core.published[name] == script.shelf[wanted.id].issued
            due = script.core.due(name)
            assert due is not None and script.now < due.at < script.shelf[wanted.id].not_after


@settings(max_examples=150)
@given(STEPS)
def test_nothing_is_forgotten_nor_done_twice_whatever_happens(steps: list[tuple[str, Any]]) -> None:
    run = Run()
    for what, value in steps:
        run.do(what, value)
    run.comes_to_rest()


def test_it_is_quick_to_rest_after_nothing() -> None:
    run = Run()
    run.do("wish", WANTED[3:4])
    run.comes_to_rest()
    assert run.script.now > NOW
