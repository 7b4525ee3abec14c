"""The retry budget: whatever comes when, what backends get is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.upstream.budget import FLOOR, WINDOW, RetryBudget

START = 1000.0

gaps = st.one_of(st.floats(0, 0.01), st.floats(0, 3), st.floats(9, 25))
bursts = st.lists(st.tuples(gaps, st.integers(0, 200), st.integers(0, 60)), max_size=40)
"""(seconds since the one before, requests, attempts at a retry)"""


@settings(max_examples=400, deadline=None)
@given(bursts, st.sampled_from([0, 1, 20, 50, 99]))
def test_within_any_ten_seconds_retries_are_a_share_of_the_requests_or_the_floor(
    pattern: list[tuple[float, int, int]], percent: int
) -> None:
    budget = RetryBudget(percent)
    now = START
    requests: list[float] = []
    retries: list[float] = []
    for gap, asked, tried in pattern:
        now += gap
        for _ in range(asked):
            budget.count(now)
            requests.append(now)
        for _ in range(tried):
            if budget.take(now):
                retries.append(now)
                recent = sum(1 for at in requests if at > now - WINDOW)
                made = sum(1 for at in retries if at > now - WINDOW)
                assert made <= max(FLOOR if percent else 0, recent * percent / 100)
    # What backends get in all, over windows that do not overlap, the last first.
    windows, end = 0, now
    left = list(retries)
    while left:
        windows, end = windows + 1, left[-1]
        left = [at for at in left if at <= end - WINDOW]
    assert len(retries) <= len(requests) * percent / 100 + FLOOR * windows


@settings(max_examples=200, deadline=None)
@given(bursts)
def test_a_quiet_upstream_has_its_floor(pattern: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget(20)
    now = START
    for gap, asked, tried in pattern:
        now += gap
        for _ in range(asked):
            budget.count(now)
        for _ in range(tried):
            budget.take(now)
    now += WINDOW + 1.0
    assert [budget.take(now) for _ in range(FLOOR + 1)] == [True] * FLOOR + [False]


@settings(max_examples=100, deadline=None)
@given(st.integers(50, 2000), st.integers(1, 99))
def test_of_steady_traffic_nearly_the_whole_share_may_be_retried(rate: int, percent: int) -> None:
    budget = RetryBudget(percent)
    made = 0
    for second in range(40):
        now = START + second
        for _ in range(rate):
            budget.count(now)
        while second >= 20 and budget.take(now):
            made += 1
    assert rate * 20 * percent / 100 * 0.8 - 2 <= made <= max(rate * 20 * percent / 100 + rate * WINDOW * percent / 100, 3 * FLOOR)


def test_a_hundred_percent_is_no_limit_and_zero_is_none() -> None:
    assert all(RetryBudget(100).take(START) for _ in range(10_000))
    never = RetryBudget(0)
    for _ in range(1000):
        never.count(START)
    assert not never.take(START)


@pytest.mark.parametrize("wait", [WINDOW - 1.5, WINDOW + 1.5])
def test_what_is_spent_comes_back_after_the_window(wait: float) -> None:
    budget = RetryBudget(20)
    assert sum(budget.take(START) for _ in range(20)) == FLOOR
    assert budget.take(START + wait) is (wait > WINDOW)
