"""Long work in steps: in slices on a loop, or at once."""

from __future__ import annotations

import pytest

from pingap.stages import slices as module
from pingap.stages.slices import Slices
from pingap.stages.steps import Steps, finished
from tests.kit.loop import Turns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is the time."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def work(clock: list[float], items: int, seconds: float, done: list[int]) -> Steps[None]:
    for number in range(items):
        clock[0] += seconds
        done.append(number)
        yield 1


def test_long_work_gives_the_loop_its_turns(clock: list[float]) -> None:
    done: list[int] = []
    turns = Turns()
    slices = Slices(work(clock, 1000, 0.001, done), lambda: turns)
    sizes = [len(done)]
    while turns.take():
        sizes.append(len(done) - sum(sizes))
    assert slices.is_done and done == list(range(1000))
    assert max(sizes) == module.LOOK, "the clock is looked at after so many"


def test_little_work_is_done_at_once_however_slow_the_machine_is(clock: list[float]) -> None:
    done: list[int] = []
    slices = Slices(work(clock, module.LOOK - 1, 10.0, done), Turns)
    assert slices.is_done and len(done) == module.LOOK - 1


def test_stopped_work_goes_no_further(clock: list[float]) -> None:
    done: list[int] = []
    turns = Turns()
    slices = Slices(work(clock, 1000, 1.0, done), lambda: turns)
    slices.stop()
    assert turns.take() and not turns.take()
    assert len(done) == module.LOOK


def test_finished_gives_the_result() -> None:
    def counting() -> Steps[str]:
        yield 1
        yield 1
        return "result"

    assert finished(counting()) == "result"
