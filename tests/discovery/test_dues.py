"""When each of many things is due, against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.discovery.dues import GRAINS, Dues

times = st.floats(0, 20) | st.none()


@given(st.lists(st.tuples(st.sampled_from("abcd"), times, st.floats(0, 1)), max_size=80))
def test_each_is_due_once_at_its_last_time_or_less_than_a_grain_later(steps: list[tuple[str, float | None, float]]) -> None:
    dues: Dues[tuple[str, ...]] = Dues()
    due: dict[tuple[str, ...], float] = {}
    now = 0.0
    for name, when, passes in steps:
        dues.set((name,), when)
        due.pop((name,), None)
        if when is not None:
            due[name,] = when
        now += passes
        taken = dues.take(now)
        assert len(set(taken)) == len(taken)
        for thing in taken:
            assert due.pop(thing) <= now + 1e-5
        assert all(late > now - 1 / GRAINS - 1e-5 for late in due.values())
        assert (dues.first is None) == (not due)
        assert dues.first is None or now < dues.first <= min(due.values()) + 1 / GRAINS


def test_what_comes_at_almost_the_same_time_comes_at_once() -> None:
    dues: Dues[tuple[str, ...]] = Dues()
    for number in range(30):
        dues.set((str(number),), 5.003 + number / 1000)
    assert dues.first == 5.1
    assert not dues.take(5.09)
    assert len(dues.take(5.1)) == 30
    assert dues.first is None
