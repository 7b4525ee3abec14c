"""What lies in a pipe is known from what comes back of it."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.bus.messages import Echo, Mark
from pingap.bus.pipes import LIMIT, STEP, Pipes

ME, YOU, OTHER = 1, 2, 3


class Marks:
    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []
        self.pipes = Pipes(ME, lambda to, envelope: self.sent.append((to, envelope)))

    def come_back(self) -> None:
        """The other ends have dealt with all."""
        marks, self.sent = self.sent, []
        for to, mark in marks:
            assert mark == Mark(ME, mark.sent)
            self.pipes.echoed(Echo(to, mark.sent))


@pytest.fixture
def marks() -> Marks:
    return Marks()


def test_a_pipe_is_full_until_enough_has_come_back(marks: Marks) -> None:
    pipes = marks.pipes
    while not pipes.is_full(YOU):
        pipes.sent(YOU, 100_000)
    assert not pipes.is_full(OTHER)
    assert len(marks.sent) == LIMIT // STEP - 1 or len(marks.sent) == LIMIT // STEP
    marks.come_back()
    assert not pipes.is_full(YOU)


def test_who_waits_goes_on_once_and_in_turn(marks: Marks) -> None:
    pipes = marks.pipes
    order: list[str] = []
    pipes.sent(YOU, 2 * LIMIT)
    pipes.when_open(YOU, lambda: order.append("first"))
    pipes.when_open(YOU, lambda: order.append("second"))
    pipes.echoed(Echo(OTHER, 2 * LIMIT))
    pipes.echoed(Echo(YOU, LIMIT - 1))
    assert order == []
    marks.come_back()
    assert order == ["first", "second"]
    pipes.sent(YOU, 2 * LIMIT)
    marks.come_back()
    assert order == ["first", "second"]


def test_an_echo_that_is_late_takes_nothing_back(marks: Marks) -> None:
    pipes = marks.pipes
    pipes.sent(YOU, 2 * LIMIT)
    marks.come_back()
    pipes.echoed(Echo(YOU, 0))
    assert not pipes.is_full(YOU)


def test_who_waits_for_the_dead_goes_on(marks: Marks) -> None:
    """What it sends is dropped by the bus, and its stream hears of the death."""
    order: list[str] = []
    marks.pipes.sent(YOU, 2 * LIMIT)
    marks.pipes.when_open(YOU, lambda: order.append("goes on"))
    marks.pipes.forget({YOU, OTHER})
    assert order == ["goes on"]
    assert not marks.pipes.is_full(YOU)


def test_short_things_send_no_marks(marks: Marks) -> None:
    marks.pipes.sent(YOU, STEP - 1)
    assert marks.sent == []
