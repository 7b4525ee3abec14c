"""The one timer of the guard serves all hooks: each is stopped when its own time is up, and none before."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from pingap.stages.plugins.guard import LIFE_SIGN, HookFailed, HookGuard, HookTimeout

MOMENT = 0.05
"""Seconds."""


@pytest.fixture
def guard() -> Iterator[HookGuard]:
    guard = HookGuard()
    guard.install(None)
    yield guard
    guard.uninstall()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each time that the timer was set."""
    found: list[float] = []
    real = signal.setitimer

    def setitimer(which: Any, seconds: float, interval: float = 0.0) -> Any:
        found.append(seconds)
        return real(which, seconds, interval)

    monkeypatch.setattr(signal, "setitimer", setitimer)
    return found


def works(seconds: float) -> float:
    """For so long; returns how long it was."""
    began = monotonic()
    while monotonic() < began + seconds:
        pass
    return monotonic() - began


def rings() -> float:
    """Seconds until the timer rings; 0.0 when it is not set."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_hooks_that_follow_each_other_set_the_timer_once(guard: HookGuard, settings: list[float]) -> None:
    assert [guard.run(60.0, len, "x" * n) for n in range(10)] == list(range(10))
    assert settings == [60.0]


def test_a_hook_with_less_time_than_the_one_before_sets_it_anew(guard: HookGuard, settings: list[float]) -> None:
    guard.run(60.0, len, ())
    with pytest.raises(HookFailed, match=r"longer than 0\.05 s"):
        guard.run(MOMENT, works, 60.0)
    assert settings[:2] == [60.0, MOMENT]


def test_a_timer_that_rings_too_early_for_a_hook_is_set_to_what_is_left(guard: HookGuard, settings: list[float]) -> None:
    guard.run(MOMENT, len, ())
    assert guard.run(60.0, works, 2 * MOMENT) >= 2 * MOMENT
    first, again = settings
    assert first == MOMENT
    assert 59.0 < again <= 60.0 - MOMENT / 2


def test_a_hook_that_a_timer_finds_in_its_midst_has_its_whole_time(guard: HookGuard) -> None:
    guard.run(MOMENT, len, ())
    began = monotonic()
    with pytest.raises(HookFailed):
        guard.run(4 * MOMENT, works, 60.0)
    assert monotonic() - began >= 4 * MOMENT


def test_a_hook_that_swallows_it_hears_it_again(guard: HookGuard) -> None:
    heard = []

    def swallows() -> None:
        try:
            works(60.0)
        except HookTimeout:
            heard.append(1)
        works(60.0)

    with pytest.raises(HookFailed):
        guard.run(MOMENT, swallows)
    assert heard == [1]


def test_after_the_last_hook_it_rings_once_and_is_clear(guard: HookGuard) -> None:
    guard.run(MOMENT, len, ())
    assert rings() > 0.0
    works(2 * MOMENT)
    assert rings() == 0.0
    with pytest.raises(HookFailed):
        guard.run(MOMENT, works, 60.0)


def test_a_guard_that_is_taken_away_leaves_no_timer_behind() -> None:
    guard = HookGuard()
    guard.install(None)
    guard.run(60.0, len, ())
    guard.uninstall()
    assert rings() == 0.0


def test_a_ring_while_a_hook_is_about_to_begin_does_not_leave_it_without_one() -> None:
    busy = [0.0]

    def beat() -> None:
        works(busy[0])

    guard = HookGuard()
    guard.install(None, beat)
    guard.run(2 * LIFE_SIGN + MOMENT, len, ())
    works(2 * LIFE_SIGN)  # so that a sign of life is due
    busy[0] = 2 * MOMENT  # while it is given the timer rings: after the hook's time has begun, before it is called
    with pytest.raises(HookFailed):
        guard.run(3 * MOMENT, works, 60.0)
    guard.uninstall()
