"""The window against a count of everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.discovery.window import SLICES, Totals, Window

INTERVALS = st.sampled_from([1.0, 7.0, 10.0, 60.0, 3600.0])
STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 5), st.integers(0, 5)), max_size=40)


@given(INTERVALS, STEPS)
def test_it_counts_what_lies_in_the_last_slices(interval: float, steps: list[tuple[float, int, int]]) -> None:
    window, width, now = Window(interval), interval / SLICES, 1000.0
    everything: list[tuple[float, int, int]] = []
    for passed, good, bad in steps:
        now += passed
        window.add(good + bad, bad, now)
        everything.append((now, good + bad, bad))
        inside = [one for one in everything if int(now // width) - int(one[0] // width) < SLICES]
        assert window.totals(now) == (sum(one[1] for one in inside), sum(one[2] for one in inside))
    assert window.totals(now + 1.1 * interval) == (0, 0)


@given(INTERVALS, INTERVALS, STEPS)
def test_another_interval_keeps_what_is_not_too_old_for_it(interval: float, other: float, steps: list[tuple[float, int, int]]) -> None:
    window, now = Window(interval), 1000.0
    everything: list[tuple[float, int, int]] = []
    for passed, good, bad in steps:
        now += passed
        window.add(good + bad, bad, now)
        everything.append((now, good + bad, bad))
    before = window.totals(now)
    window.resize(other, now)
    after = window.totals(now)
    surely = [one for one in everything if now - one[0] < 0.8 * min(interval, other)]
    assert after.requests >= sum(one[1] for one in surely)
    assert after.requests <= before.requests
    if other >= interval:
        assert after == before
    window.add(3, 1, now)
    assert window.totals(now) == (after.requests + 3, after.failures + 1)
    assert window.totals(now + 1.2 * other) == (0, 0)


def test_a_percentage_of_nothing_is_none() -> None:
    assert Totals(0, 0).percent == 0
    assert Totals(8, 2).percent == 25
