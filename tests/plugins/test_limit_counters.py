"""What the counters of `limit` say: against simple models, on a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim
from pingap.stages.plugins.limits import BUCKET, INFLIGHT, RATE, LimitCounters

START = 1_000.0
TENTH = 0.0001
"""Seconds: keeps what floating point adds up to from falling below the whole millisecond."""
GAPS = st.lists(st.sampled_from([0, 0, 0, 1, 7, 50, 99, 100, 101, 400, 1000, 2500, 61_000]), max_size=60)
"""Milliseconds before each request."""


class Judged:
    """Requests of one key, one after the other."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.now = START + (TENTH if args[0] == BUCKET else 0)
        self._leases = Leases()
        self._limits = LimitCounters()
        self._sid = 1 << 32

    def ask(self, after: float = 0.0, key: str = "k") -> Verdict:
        """after: seconds since the request before."""
        self.now = round(self.now + after, 4)
        self._sid += 1
        return self._limits.judge(self._leases, Claim(self._sid, 1, key, self.args), self.now)


# -- buckets -----------------------------------------------------------------------


def test_a_bucket_lets_a_burst_pass_and_then_one_for_each_that_has_leaked() -> None:
    bucket = Judged(BUCKET, 10_000, 3_000, 3_000)
    assert [bucket.ask().allowed for _ in range(6)] == [True, True, True, True, False, False]
    assert [bucket.ask(0.1).allowed for _ in range(3)] == [True, True, True]
    assert [bucket.ask(0.05).allowed for _ in range(4)] == [False, True, False, True]
    assert [bucket.ask(2.0 if first else 0).allowed for first in (1, 0, 0, 0, 0)] == [True, True, True, True, False]


def test_requests_beyond_delay_wait_their_turn() -> None:
    bucket = Judged(BUCKET, 10_000, 5_000, 2_000)
    assert [bucket.ask().wait for _ in range(6)] == [0, 0, 0, 0.1, 0.2, 0.3]
    refused = bucket.ask()
    assert (refused.allowed, refused.value, refused.wait, refused.remaining, refused.reset) == (False, 6.0, 0.1, 0, 0.6)


def test_without_a_burst_a_bucket_spaces_requests() -> None:
    bucket = Judged(BUCKET, 500, 0, 0)  # one in 2 s
    assert [bucket.ask(after).allowed for after in (0, 1.999, 0.001, 1.999, 0.001)] == [True, False, True, False, True]


def test_a_refused_request_fills_nothing() -> None:
    bucket = Judged(BUCKET, 1_000, 0, 0)
    assert bucket.ask().allowed
    assert [bucket.ask(0.1).allowed for _ in range(9)] == [False] * 9
    assert bucket.ask(0.1).allowed


def test_buckets_are_forgotten_from_the_least_recent_one_on() -> None:
    limits, leases = LimitCounters(keys=2), Leases()
    asked = [limits.judge(leases, Claim(1, 1, key, (BUCKET, 1_000, 0, 0)), START).allowed for key in "abaca"]
    assert asked == [True, True, False, True, False]
    assert len(limits) == 2


@given(GAPS, st.integers(1, 100_000), st.integers(0, 20))
def test_a_bucket_never_lets_more_pass_than_it_leaks_and_holds(gaps: list[int], rate: int, burst: int) -> None:
    bucket = Judged(BUCKET, rate, burst * 1000, 0)
    passed = ms = 0
    for gap in gaps:
        ms += gap
        bucket.now = START + TENTH + ms / 1000
        passed += bucket.ask().allowed
        assert passed <= burst + 1 + rate * (ms + 1) / 1e6 + 1


@given(GAPS, st.integers(1, 50).map(lambda each: 1000 * each), st.integers(0, 20), st.integers(0, 20))
def test_what_a_bucket_says_comes_true(gaps: list[int], rate: int, burst: int, delay: int) -> None:
    """`remaining` more pass at once and no further one; who comes back after `wait` passes, and 2 ms earlier does not."""
    args = (BUCKET, rate, burst * 1000, min(delay, burst) * 1000)

    def after(more: float) -> Judged:
        again = Judged(*args)
        ms = 0
        for gap in gaps:
            ms += gap
            again.now = START + TENTH + ms / 1000
            again.ask()
        again.now = START + TENTH + round(ms + more * 1000) / 1000
        return again

    verdict = after(0).ask()
    if verdict.allowed:
        bucket = after(0)
        bucket.ask()
        assert all(bucket.ask().allowed for _ in range(verdict.remaining))
        assert not bucket.ask().allowed
        assert verdict.wait <= max(0, burst - delay) * 1000 / rate
    else:
        assert after(verdict.wait).ask().allowed
        assert not after(verdict.wait - 0.002).ask().allowed


# -- rates ---------------------------------------------------------------------------


@given(GAPS, st.integers(0, 20), st.sampled_from([0.05, 0.5, 1.0, 10.0]), st.integers(0, 100))
def test_what_a_rate_says_comes_true(gaps: list[int], most: int, interval: float, percent: int) -> None:
    args = (RATE, most / max(interval, 1.0), interval, percent / 100)

    def after(more: float) -> Judged:
        again = Judged(*args)
        ms = 0
        for gap in gaps:
            ms += gap
            again.now = START + ms / 1000
            again.ask()
        again.now = START + ms / 1000 + more
        return again

    verdict = after(0).ask()
    if verdict.allowed:
        again = after(0)
        again.ask()
        assert verdict.remaining <= most
        assert all(again.ask().allowed for _ in range(verdict.remaining))
        if percent and verdict.remaining < int(args[1] * interval):  # else it is cut off at what one window may have
            assert not again.ask().allowed
    elif percent / 100 <= args[1] * interval:
        again = after(0)
        again.ask()
        again.now += verdict.wait + 2 * TENTH
        assert again.ask().allowed
        if verdict.wait > interval:  # the window between would have been too early
            early = after(0)
            early.ask()
            early.now += verdict.wait - interval + 2 * TENTH
            assert not early.ask().allowed
    assert 0 < verdict.reset <= interval + 1e-6


@pytest.mark.parametrize(("after", "wait"), [(0.0, 10.0), (3.0, 7.0)])
def test_a_refused_rate_says_when_its_window_ends(after: float, wait: float) -> None:
    rate = Judged(RATE, 1.0, 10.0, 1.0)
    assert [rate.ask().remaining for _ in range(10)] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    refused = rate.ask(after)
    assert refused.wait == pytest.approx(wait)
    assert (refused.allowed, refused.remaining) == (False, 0)


# -- requests in flight -----------------------------------------------------------------


def test_requests_in_flight_say_how_many_more_there_may_be() -> None:
    flying = Judged(INFLIGHT, 2)
    assert [flying.ask() for _ in range(3)] == [(True, 1, 0, 1, 0), (True, 2, 0, 0, 0), (False, 3, 0, 0, 0)]
