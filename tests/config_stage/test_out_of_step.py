"""When the log says that changes cannot be seen."""

from __future__ import annotations

from pingap.stages.config.out_of_step import EVERY, OutOfStep


def levels(*script: tuple[float, str]) -> list[tuple[float, str]]:
    """The times at which the script (time, trouble) made it say something, and how loud."""
    step = OutOfStep()
    return [(at, line[0]) for at, trouble in script if (line := step.line(trouble, at))]


def test_nothing_is_said_while_there_is_no_trouble() -> None:
    assert levels((1, ""), (2, "")) == []


def test_trouble_is_told_at_once_then_once_a_minute_and_its_end_once() -> None:
    assert levels((1, "x"), (2, "x"), (30, "y"), (1 + EVERY, "x"), (62, "x"), (63, ""), (64, "")) == [
        (1, "warn"),
        (1 + EVERY, "warn"),
        (63, "info"),
    ]


def test_a_second_trouble_after_the_first_is_told_at_once() -> None:
    assert [at for at, _ in levels((1, "x"), (2, ""), (3, "x"))] == [1, 2, 3]
