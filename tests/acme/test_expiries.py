"""When it is told of certificates that they end: of a clock that is moved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.acme.expiries import ERROR, INFO, MOST, WARN, Expiries, ExpiryTelling, WatchedCertificate, state_of, trouble_of
from pingap.stages.certificate_status import DAY, EXPIRED, NOT_YET, SOON, VALID

NOW = 1_800_000_000.0
HOUR = 3600.0


def of_file(name: str = "a", left: float = 90, **more: Any) -> WatchedCertificate:
    """left: days."""
    return WatchedCertificate(name, NOW - 30 * DAY, NOW + left * DAY, None, False)._replace(**more)


def by_acme(name: str = "a", left: float = 60, life: float = 90, error: str = "", **more: Any) -> WatchedCertificate:
    """left, life: days."""
    return WatchedCertificate(name, NOW + (left - life) * DAY, NOW + left * DAY, None, True, error)._replace(**more)


def told(*tellings: ExpiryTelling) -> list[tuple[str, str]]:
    return [(one.level, one.message) for one in tellings]


@pytest.mark.parametrize(
    ("one", "level", "state"),
    [
        (of_file(left=7.1), "", VALID),
        (of_file(left=6.9), WARN, SOON),
        (of_file(left=29, buffer_days=30), WARN, SOON),
        (of_file(left=31, buffer_days=30), "", VALID),
        (of_file(left=0), ERROR, EXPIRED),
        (of_file(left=-400), ERROR, EXPIRED),
        (of_file(not_before=NOW + 1), WARN, NOT_YET),
        (of_file(not_after=0.0), "", EXPIRED),
        # By ACME: a renewal that fails is told in the last seven days, or in the last third of a short life; and then it is an error.
        (by_acme(left=29), "", VALID),
        (by_acme(left=29, error="x"), "", VALID),
        (by_acme(left=7.1, error="x"), "", VALID),
        (by_acme(left=6.9, error="x"), WARN, SOON),
        (by_acme(left=1.9, error="x"), ERROR, SOON),
        (by_acme(left=6.9), "", VALID),
        (by_acme(left=1.9), WARN, SOON),
        (by_acme(left=1.9, buffer_days=1), "", VALID),
        (by_acme(left=2.1, life=6, error="x"), "", VALID),
        (by_acme(left=1.9, life=6, error="x"), WARN, SOON),
        (by_acme(left=0.5, life=6, error="x"), ERROR, SOON),
        (by_acme(left=0.7, life=6), "", VALID),
        (by_acme(left=-1, error="x"), ERROR, EXPIRED),
    ],
)
def test_how_bad_it_is(one: WatchedCertificate, level: str, state: str) -> None:
    assert trouble_of(one, NOW) == level
    if one.not_after:
        assert state_of(one, NOW) == state


def test_all_are_one_notice_at_the_start_in_the_words_of_the_reference() -> None:
    (telling,) = Expiries().due([of_file("A", 3), of_file("B", 5), of_file("C")], NOW)
    assert told(telling) == [(WARN, "certificate A,B will be expired")]
    assert (telling.names, telling.total) == (("A", "B"), 2)
    assert telling.lines[0] == ("certificate expires soon", {"certificate": "A", "ends": "2027-01-18 08:00 UTC", "days": 3.0})


def test_it_is_told_again_once_a_day_and_of_all_together() -> None:
    expiries = Expiries()
    early, later = of_file("early", 6), of_file("later", 7.2)
    assert told(*expiries.due([early, later], NOW)) == [(WARN, "certificate early will be expired")]
    assert [hour for hour in range(1, 24) if expiries.due([early, later], NOW + hour * HOUR)] == [5]  # the other has come so far
    assert told(*expiries.due([early, later], NOW + DAY)) == [(WARN, "certificate early,later will be expired")]
    hours = [hour for hour in range(25, 120) if expiries.due([early, later], NOW + hour * HOUR)]
    assert hours == [48, 72, 96]


def test_what_gets_worse_is_told_at_once() -> None:
    expiries = Expiries()
    error = "the authority does not answer"
    one = by_acme("shop", 2.5, error=error)
    assert [telling.level for telling in expiries.due([one], NOW)] == [WARN]
    assert expiries.due([one], NOW + 11 * HOUR) == ()
    (worse,) = expiries.due([one], NOW + 13 * HOUR)
    assert worse.level == ERROR
    assert worse.message == (
        "certificate shop will be expired\nshop ends on 2027-01-17 20:00 UTC, and its renewal fails: the authority does not answer"
    )
    assert worse.lines == (
        (
            "certificate expires soon, and its renewal fails",
            {"certificate": "shop", "ends": "2027-01-17 20:00 UTC", "days": 2.0, "error": error},
        ),
    )
    (ended,) = expiries.due([one], NOW + 4 * DAY)
    assert ended.level == ERROR and ended.message.startswith("certificate shop is expired: clients refuse it\nshop ends on 2027")


def test_several_levels_are_several_notices_the_worst_first() -> None:
    rows = [of_file("soon", 3), of_file("over", -1), of_file("early", not_before=NOW + HOUR), by_acme("late", 1, error="no account")]
    error, warn = Expiries().due(rows, NOW)
    assert (error.level, error.names) == (ERROR, ("over", "late"))
    assert error.message.splitlines()[:2] == ["certificate over is expired: clients refuse it", "certificate late will be expired"]
    assert told(warn) == [(WARN, "certificate soon will be expired\ncertificate early is not valid yet: clients refuse it")]
    assert warn.lines[1][1]["begins"] == "2027-01-15 09:00 UTC"


def test_what_is_well_again_is_told_once() -> None:
    expiries = Expiries()
    expiries.due([of_file("a", -1), of_file("b", 1)], NOW)
    (telling,) = expiries.due([of_file("a", 90), of_file("b", 1)], NOW + 60)
    assert told(telling) == [(INFO, "certificate a is in order again")]
    assert telling.lines[0][0] == "certificate is in order again"
    assert expiries.due([of_file("a", 90), of_file("b", 1)], NOW + 120) == ()


def test_what_is_gone_is_not_told_and_forgotten() -> None:
    expiries = Expiries()
    expiries.due([of_file("a", 1)], NOW)
    assert expiries.due([], NOW + 60) == ()
    assert told(*expiries.due([of_file("a", 1)], NOW + 120)) == [(WARN, "certificate a will be expired")]
    assert expiries.due([by_acme("a", not_after=0.0)], NOW + 180) == ()


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    expiries = Expiries()
    expiries.due([of_file("a", 1)], NOW)
    assert expiries.due([of_file("a", 1, not_before=0.0)], NOW - 2 * HOUR) != ()


def test_ten_thousand_certificates_are_one_notice_that_can_be_read() -> None:
    rows = [by_acme(f"c{number}", 1, error="e" * 100) for number in range(10_000)]
    (telling,) = Expiries().due(rows, NOW)
    assert (len(telling.names), len(telling.lines), telling.total) == (MOST, MOST, 10_000)
    assert len(telling.message) < 4000 and "9900 more" in telling.message and "9990 more cannot be renewed" in telling.message


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.sampled_from(["", "no"])), max_size=30))
def test_of_an_hourly_look_at_least_one_telling_a_day_and_no_storm(steps: list[tuple[int, bool, str]]) -> None:
    """left: hours; each step is an hour."""
    expiries, last, seen = Expiries(), None, 0
    for hour, (left, is_acme, error) in enumerate(steps):
        now = NOW + hour * HOUR
        one = WatchedCertificate("a", 0.0, now + left * HOUR, None, is_acme, error)
        found = expiries.due([one], now)
        level = trouble_of(one, now)
        assert len(found) <= 1
        if level != last and level:
            assert found and found[0].level == level
            seen = hour
        elif level:
            assert bool(found) == (hour - seen >= 24)
            seen = hour if found else seen
        else:
            assert bool(found) == bool(last)
        last = level
