"""What bench/outages says of a load: errors, what the outage touched, and when traffic had left and was back."""

from __future__ import annotations

import pytest

from bench.outages.figures import Span, figures
from bench.outages.load import Seen


def load(seconds: float, backends: tuple[str, ...] = ("a", "b", "c"), start: float = 0.0, rate: int = 100) -> list[Seen]:
    """Good answers, the backends in turns."""
    first = round(start * rate)
    return [Seen(n, n / rate, 0.01, 200, backends[n % len(backends)]) for n in range(first, first + round(seconds * rate))]


def test_nobody_is_hurt_when_a_proxy_notices_nothing() -> None:
    found = figures([*load(10), *load(10, ("a", "b"), 10), *load(10, start=20)], Span(10, 20), "c", [])
    assert (found.requests, found.errors, found.slow, found.touched, found.last) == (3000, 0, 0, 0, None)
    assert found.returned is not None and found.returned < 0.05


def test_last_is_when_the_last_touched_request_was_sent() -> None:
    seen = load(20)
    seen[1050] = Seen(1050, 10.5, 0.1, 502, "")
    seen[1100] = Seen(1100, 11.0, 1.5, 200, "a")
    seen[1300] = Seen(1300, 13.0, 10.0, -1, "")
    found = figures(seen, Span(10, 20), "c", [1, 2, 1500])
    assert (found.errors, found.slow, found.touched) == (2, 1, 4)
    assert found.left == 0.0, "few are trials, not traffic"
    assert found.last == 5.0, "a request that reached the bad backend and was answered by another counts"


def test_left_is_when_more_than_trials_were_touched_for_the_last_time() -> None:
    bad = [Seen(n, n / 100, 0.1, 502, "") if n % 3 == 0 else Seen(n, n / 100, 0.01, 200, "a") for n in range(1000, 1300)]
    found = figures([*load(10), *bad, *load(7, start=13)], Span(10, 20), "c", [1800, 1801])
    assert found.left is not None and 2.9 < found.left < 3.0
    assert found.last == pytest.approx(8.01)


def test_back_is_when_it_begins_to_have_its_share() -> None:
    few = [Seen(n, n / 100, 0.01, 200, "c" if n % 10 == 0 else "a") for n in range(1000, 1300)]
    found = figures([*load(10, ("a", "b")), *few, *load(7, start=13)], Span(5, 10), "c", [])
    assert found.returned is not None and 2.2 < found.returned < 2.9


def test_one_that_never_gets_its_share_has_not_come_back() -> None:
    assert figures([*load(10), *load(10, ("a", "b"), 10)], Span(5, 10), "c", []).returned is None


def test_one_that_joins_first_is_looked_at_until_it_leaves() -> None:
    seen = [*load(5, ("a", "b")), *load(10, start=5), *load(10, ("a", "b"), 15)]
    found = figures(seen, Span(gone=15, back=5), "c", [one.number for one in seen if one.backend == "c"])
    assert found.left is None and found.last is None
    assert found.returned is not None and found.returned < 0.1
