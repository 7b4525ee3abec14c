from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import BadValue
from pingap.config.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("1h 30m", 5400.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("0", 0.0),
        ("0s", 0.0),
        ("2 days", 172800.0),
        ("1w", 604800.0),
        ("1M", 2630016.0),
        ("1y", 31557600.0),
        (" 5m ", 300.0),
        ("1us 1ns", 1.001e-6),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "10", "s", "10x", "-1s", "1s,", "1e3s", "10 parsecs", "9999999y", 10, 1.5, True, None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(BadValue):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4kb", 4000), ("4k", 4000), ("4KiB", 4096), ("4 Ki", 4096), ("1mb", 10**6), ("10MB", 10**7), ("1.5kb", 1500)]
    + [("512", 512), ("512b", 512), (512, 512), (0, 0), ("1gib", 2**30), ("1TB", 10**12)],
)
def test_a_size_is_read_in_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "kb", "4 kx", "-1", -1, "9eib", 2**63, True, 1.5, "1 2", None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(BadValue):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_duration_written_is_read_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds / 1e9)) == nanoseconds / 1e9


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_size_written_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 999), st.sampled_from(["KiB", "KB", "MiB", "MB", "GiB", "GB"]))
def test_a_round_size_is_written_in_its_unit(count: int, unit: str) -> None:
    text = format_size(parse_size(f"{count}{unit}"))
    assert not text.isdigit()


@given(st.text())
def test_no_text_breaks_the_readers_of_quantities(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(BadValue):
            assert parse(text) >= 0


@pytest.mark.parametrize("text", ["٣s", "²s", "1٣ms"])
def test_only_the_digits_0_to_9_make_a_number(text: str) -> None:
    with pytest.raises(BadValue):
        parse_duration(text)
    with pytest.raises(BadValue):
        parse_size(text.removesuffix("s").removesuffix("m"))
