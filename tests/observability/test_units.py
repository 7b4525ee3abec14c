"""Sizes and durations for people."""

from __future__ import annotations

import pytest

from pingap.observability.units import duration_human, size_human


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1KB"),
        (1024, "1KB"),
        (1124, "1.1KB"),
        (999_999, "999.9KB"),
        (1_220_000, "1.2MB"),
        (3 * 10**9, "3GB"),
    ],
)
def test_sizes_have_one_decimal_and_powers_of_1000(size: int, shown: str) -> None:
    assert size_human(size) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0, "0ms"), (999, "999ms"), (1000, "1s"), (1250, "1.2s"), (60_000, "1m"), (95_000, "1.5m"), (3_600_000, "1h"), (5_400_000, "1.5h")],
)
def test_durations_take_the_largest_unit_that_fits(ms: int, shown: str) -> None:
    assert duration_human(ms) == shown
